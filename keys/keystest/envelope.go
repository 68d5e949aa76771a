package keystest

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// Envelope is a ciphertext, read and written by what docs/ciphertext.md says
// and not by the code of package keys.
type Envelope struct {
	Format, Class, Algorithm, Flags byte
	KeyID                           string
	Version                         uint32
	Wrapped, Nonce, Body            []byte
	MACVersion                      uint32
	MAC                             []byte
}

// Decode reads a ciphertext that is well formed.
func Decode(text string) (e Envelope, err error) {
	if len(text) < 4 || text[:4] != "vd1." {
		return e, errors.New("no prefix")
	}
	b, err := base64.RawURLEncoding.DecodeString(text[4:])
	if err != nil {
		return e, err
	}
	defer func() {
		if recover() != nil {
			err = errors.New("cut off")
		}
	}()
	e.Format, e.Class, e.Algorithm, e.Flags = b[0], b[1], b[2], b[3]
	b, n := b[5:], int(b[4])
	e.KeyID, b = string(b[:n]), b[n:]
	e.Version, b = binary.BigEndian.Uint32(b), b[4:]
	n, b = int(binary.BigEndian.Uint16(b)), b[2:]
	e.Wrapped, b = b[:n], b[n:]
	e.Nonce, b = b[:12], b[12:]
	if e.Flags&1 != 0 {
		mac := b[len(b)-36:]
		e.MACVersion, e.MAC = binary.BigEndian.Uint32(mac), mac[4:]
		b = b[:len(b)-36]
	}
	e.Body = b
	return e, nil
}

// Unauthenticated gives the bytes before the MAC.
func (e Envelope) Unauthenticated() []byte {
	b := []byte{e.Format, e.Class, e.Algorithm, e.Flags, byte(len(e.KeyID))}
	b = append(b, e.KeyID...)
	b = binary.BigEndian.AppendUint32(b, e.Version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Wrapped)))
	b = append(b, e.Wrapped...)
	b = append(b, e.Nonce...)
	return append(b, e.Body...)
}

// Text writes the ciphertext.
func (e Envelope) Text() string {
	b := e.Unauthenticated()
	if e.Flags&1 != 0 {
		b = binary.BigEndian.AppendUint32(b, e.MACVersion)
		b = append(b, e.MAC...)
	}
	return "vd1." + base64.RawURLEncoding.EncodeToString(b)
}

// Parts writes a list as it is authenticated: each part after its length.
func Parts(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// AAD gives what is authenticated with the body.
func (e Envelope) AAD(tenant, typ, id, pointer string) []byte {
	return Parts("verdict/enc/v1", string([]byte{e.Format}), string([]byte{e.Class}), e.KeyID, string([]byte{e.Algorithm}), tenant, typ, id, pointer)
}
