package escrow

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// Limits of shares.
const (
	// MaxShares is the most shares that a key is split into.
	MaxShares = 32
	// MinThreshold is the least number of shares that give the key.
	MinThreshold = 2

	sharePrefix  = "vds1."
	scalarSize   = 32
	elementSize  = 33 // compressed
	shareHeader  = 3  // threshold, total, number
	maxShareText = 4 << 10
)

// ErrShare is returned when a text is not a share, or not one of the escrow
// key's.
var ErrShare = errors.New("share_invalid")

// Share is one of the parts of a private key. Each carries commitments to all
// (Feldman), by which it is checked alone, without the others.
type Share struct {
	Threshold, Total, Number uint8

	value       group.Scalar
	commitments []group.Element // the first is the public key
}

// Split makes an escrow key of P-256 and splits its private key into total
// shares, of which threshold give it. The key itself is kept nowhere.
func Split(random io.Reader, total, threshold int) (*PublicKey, []Share, error) {
	if total > MaxShares || threshold < MinThreshold || threshold > total {
		return nil, nil, fmt.Errorf("%d shares of which %d are enough: want %d to %d of which at least %d are", total, threshold, MinThreshold, MaxShares, MinThreshold)
	}
	secret := group.P256.RandomNonZeroScalar(random)
	sharing := secretsharing.New(random, uint(threshold-1), secret)
	commitments := sharing.CommitSecret()
	public, err := publicOf(commitments[0])
	if err != nil {
		return nil, nil, err
	}
	shares := make([]Share, 0, total)
	for i, s := range sharing.Share(uint(total)) {
		shares = append(shares, Share{
			Threshold: uint8(threshold), Total: uint8(total), Number: uint8(i + 1), value: s.Value, commitments: commitments,
		})
	}
	return public, shares, nil
}

// publicOf gives the public key that a point is.
func publicOf(point group.Element) (*PublicKey, error) {
	raw, err := point.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("escrow key: %w", err)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("escrow key: %w", err)
	}
	return newPublicKey(key)
}

// Text writes the share: who holds enough of them holds the key.
func (s Share) Text() (string, error) {
	raw := []byte{s.Threshold, s.Total, s.Number}
	value, err := s.value.MarshalBinary()
	if err != nil {
		return "", fmt.Errorf("write share: %w", err)
	}
	raw = append(raw, value...)
	clear(value)
	defer clear(raw)
	for _, c := range s.commitments {
		point, err := c.MarshalBinaryCompress()
		if err != nil {
			return "", fmt.Errorf("write share: %w", err)
		}
		raw = append(raw, point...)
	}
	return sharePrefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

// ParseShare reads what Text writes and checks it against its commitments. No
// error holds any of it.
func ParseShare(text string) (Share, error) {
	text = strings.TrimSpace(text)
	encoded, ok := strings.CutPrefix(text, sharePrefix)
	if !ok || len(text) > maxShareText {
		return Share{}, fmt.Errorf("a share begins with %q: %w", sharePrefix, ErrShare)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Share{}, fmt.Errorf("a share is base64url: %w", ErrShare)
	}
	defer clear(raw)
	if len(raw) < shareHeader+scalarSize {
		return Share{}, fmt.Errorf("a share is cut: %w", ErrShare)
	}
	s := Share{Threshold: raw[0], Total: raw[1], Number: raw[2]}
	if s.Total > MaxShares || s.Threshold < MinThreshold || s.Threshold > s.Total || s.Number < 1 || s.Number > s.Total ||
		len(raw) != shareHeader+scalarSize+elementSize*int(s.Threshold) {
		return Share{}, fmt.Errorf("a share is not complete: %w", ErrShare)
	}
	s.value = group.P256.NewScalar()
	if err := s.value.UnmarshalBinary(raw[shareHeader : shareHeader+scalarSize]); err != nil {
		return Share{}, ErrShare
	}
	for rest := raw[shareHeader+scalarSize:]; len(rest) > 0; rest = rest[elementSize:] {
		point := group.P256.NewElement()
		if err := point.UnmarshalBinary(rest[:elementSize]); err != nil {
			return Share{}, ErrShare
		}
		s.commitments = append(s.commitments, point)
	}
	if !secretsharing.Verify(uint(s.Threshold-1), s.sharing(), s.commitments) {
		return Share{}, fmt.Errorf("a share does not fit to its key: %w", ErrShare)
	}
	return s, nil
}

func (s Share) sharing() secretsharing.Share {
	return secretsharing.Share{ID: group.P256.NewScalar().SetUint64(uint64(s.Number)), Value: s.value}
}

// sameSplit tells whether two shares are of one split.
func (s Share) sameSplit(other Share) bool {
	if s.Threshold != other.Threshold || s.Total != other.Total {
		return false
	}
	for i, c := range s.commitments {
		if !c.IsEqual(other.commitments[i]) {
			return false
		}
	}
	return true
}

// Combine gives the private key of shares: ErrShare when they are too few, not
// of one split, or one is there twice.
func Combine(shares []Share) (*PrivateKey, error) {
	if len(shares) == 0 || len(shares) < int(shares[0].Threshold) {
		return nil, fmt.Errorf("%d shares are too few: %w", len(shares), ErrShare)
	}
	seen := map[uint8]bool{}
	parts := make([]secretsharing.Share, 0, len(shares))
	for _, s := range shares {
		if seen[s.Number] || !s.sameSplit(shares[0]) {
			return nil, fmt.Errorf("share %d is there twice or of another split: %w", s.Number, ErrShare)
		}
		seen[s.Number] = true
		parts = append(parts, s.sharing())
	}
	secret, err := secretsharing.Recover(uint(shares[0].Threshold-1), parts)
	if err != nil {
		return nil, fmt.Errorf("combine shares: %w", ErrShare)
	}
	raw, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("combine shares: %w", ErrShare)
	}
	defer clear(raw)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("combine shares: %w", ErrShare)
	}
	public, err := newPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	want, err := shares[0].commitments[0].MarshalBinary()
	got, err2 := key.PublicKey.Bytes()
	if err = errors.Join(err, err2); err != nil || !bytes.Equal(want, got) {
		return nil, fmt.Errorf("the shares give another key: %w", ErrShare)
	}
	return &PrivateKey{key: key, public: public}, nil
}
