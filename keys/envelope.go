package keys

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Prefix is what every ciphertext begins with.
const Prefix = "vd1."

// Limits of a value.
const (
	// MaxPlaintext is the length of a value in bytes.
	MaxPlaintext = 16 << 20
	// MaxText is the length of a ciphertext in characters.
	MaxText = len(Prefix) + (MaxPlaintext+maxOverhead)*4/3 + 3
)

const (
	formatVersion = 1
	bodyAES256GCM = 1 // AES-256-GCM, 96-bit random nonce, 128-bit tag
	flagMAC       = 1 // a MAC follows the body
	nonceSize     = 12
	tagSize       = 16
	macSize       = sha256.Size
	macFieldSize  = 4 + macSize
	maxOverhead   = 4 + 1 + MaxName + 4 + 2 + MaxWrapped + nonceSize + tagSize + macFieldSize
)

// Header is what a ciphertext tells about itself. Nothing of it is
// authenticated before the value is opened.
type Header struct {
	Class   Class
	KeyID   string
	Version uint32 // of the key that wraps the data key
	// MACVersion is the version of the key that made the MAC; 0: there is none.
	MACVersion uint32
}

// Inspect reads the header of a ciphertext: ErrMalformed when the text is
// none.
func Inspect(text string) (Header, error) {
	e, err := parse(text)
	if err != nil {
		return Header{}, err
	}
	return Header{Class: e.class, KeyID: e.keyID, Version: e.wrapped.Version, MACVersion: e.mac.Version}, nil
}

// envelope is a decoded ciphertext.
//
//	struct {
//	    uint8  format = 1;
//	    uint8  class;               // 2 internal to 5 top_secret
//	    uint8  algorithm = 1;       // of the body: AES-256-GCM
//	    uint8  flags;               // 1: a MAC follows the body
//	    opaque key_id<1..128>;      // uint8 length
//	    uint32 key_version;         // from 1 on
//	    opaque wrapped<1..2048>;    // uint16 length
//	    opaque nonce[12];
//	    opaque body[...];           // ciphertext and tag of 16 bytes
//	    select (flags & 1) { case 1: uint32 mac_version; opaque mac[32]; };
//	} Envelope;
type envelope struct {
	class   Class
	alg     uint8
	flags   uint8
	keyID   string
	wrapped WrappedKey
	nonce   []byte
	body    []byte
	mac     Tag
	raw     []byte // all of it before the MAC
}

// parse decodes a ciphertext. It accepts one encoding of each envelope only:
// no padding, no line breaks, no set bits beyond the end.
func parse(text string) (*envelope, error) {
	if len(text) > MaxText || !strings.HasPrefix(text, Prefix) {
		return nil, ErrMalformed
	}
	encoded := text[len(Prefix):]
	if strings.ContainsAny(encoded, "\r\n") { // which the decoder skips
		return nil, ErrMalformed
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, ErrMalformed
	}
	return parseBytes(b)
}

func parseBytes(b []byte) (*envelope, error) {
	r := reader{rest: b}
	e := &envelope{}
	format := r.uint8()
	e.class, e.alg, e.flags = Class(r.uint8()), r.uint8(), r.uint8()
	if r.short || format != formatVersion || e.class <= Public || e.class > TopSecret ||
		e.alg != bodyAES256GCM || e.flags&^flagMAC != 0 {
		return nil, ErrMalformed
	}
	e.keyID = string(r.take(int(r.uint8())))
	e.wrapped.Version = r.uint32()
	e.wrapped.Blob = r.take(int(r.uint16()))
	e.nonce = r.take(nonceSize)
	if r.short || !validName(e.keyID) || e.wrapped.Version == 0 || len(e.wrapped.Blob) == 0 || len(e.wrapped.Blob) > MaxWrapped {
		return nil, ErrMalformed
	}
	size := len(r.rest)
	if e.flags&flagMAC != 0 {
		size -= macFieldSize
	}
	if size < tagSize || size > MaxPlaintext+tagSize {
		return nil, ErrMalformed
	}
	e.body = r.take(size)
	e.raw = b[:len(b)-len(r.rest)]
	if e.flags&flagMAC != 0 {
		e.mac.Version = r.uint32()
		e.mac.Bytes = r.take(macSize)
		if e.mac.Version == 0 {
			return nil, ErrMalformed
		}
	}
	return e, nil
}

// appendHeader appends an envelope up to the nonce, which comes next.
func appendHeader(b []byte, class Class, flags uint8, keyID string, w WrappedKey) []byte {
	b = append(b, formatVersion, byte(class), bodyAES256GCM, flags, byte(len(keyID)))
	b = append(b, keyID...)
	b = binary.BigEndian.AppendUint32(b, w.Version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.Blob)))
	return append(b, w.Blob...)
}

func appendMAC(b []byte, mac Tag) []byte {
	b = binary.BigEndian.AppendUint32(b, mac.Version)
	return append(b, mac.Bytes...)
}

// macMessage is what the ring authenticates of a value whose data key anybody
// could have wrapped: all of the envelope before the MAC, and the associated
// data. It is hashed first, so that the backend is sent 46 bytes and not the
// value.
//
//	opaque digest[32] = SHA-256(part(aad) || part(envelope));
//	struct { opaque label[14]; opaque digest[32]; } MACMessage;
func macMessage(aad, raw []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{aad, raw} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	return h.Sum([]byte(labelMAC))
}

// text encodes an envelope.
func text(b []byte) string {
	out := make([]byte, 0, len(Prefix)+base64.RawURLEncoding.EncodedLen(len(b)))
	out = append(out, Prefix...)
	return string(base64.RawURLEncoding.AppendEncode(out, b))
}

// validName tells whether a key may have that name: 1 to MaxName lower or
// upper case letters, digits, ".", "_" and "-", not a dot first.
func validName(name string) bool {
	if name == "" || len(name) > MaxName || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// reader takes fields off the front of a buffer; short tells, in the end,
// whether one was missing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
