package pdp

import (
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// idSource makes decision ids: UUID version 7 (RFC 9562, section 5.7), 48 bits
// of Unix time in milliseconds followed by randomness, so that ids sort by time
// and a record can be found by the time its id carries.
type idSource struct {
	rand io.Reader // must be safe for concurrent use, as crypto/rand is
}

func (s *idSource) next(now time.Time) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(s.rand, b[6:]); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	ms := now.UnixMilli()
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6] = b[6]&0x0f | 0x70 // version 7
	b[8] = b[8]&0x3f | 0x80 // variant of RFC 9562
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:]), nil
}
