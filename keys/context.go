package keys

import (
	"encoding/binary"
	"fmt"
)

// MaxContextPart is the length of each part of a Context in bytes.
const MaxContextPart = 1000

// Labels of the lists that are authenticated. They keep apart what one key
// is used for.
const (
	labelBody    = "verdict/enc/v1"
	labelDataKey = "verdict/dek/v1"
	labelMAC     = "verdict/mac/v1"
)

// Context is where a value belongs. A ciphertext opens in its own context
// only. A part that is left out is the empty string and is bound as such.
type Context struct {
	Tenant  string `json:"tenant,omitempty"`
	Type    string `json:"type,omitempty"`    // of the document
	ID      string `json:"id,omitempty"`      // of the document
	Pointer string `json:"pointer,omitempty"` // JSON Pointer to the value
}

// Validate tells which part is too long.
func (c Context) Validate() error {
	for _, p := range []struct{ name, value string }{
		{"tenant", c.Tenant}, {"type", c.Type}, {"id", c.ID}, {"pointer", c.Pointer},
	} {
		if len(p.value) > MaxContextPart {
			return fmt.Errorf("context.%s has %d bytes, at most %d: %w", p.name, len(p.value), MaxContextPart, ErrTooLarge)
		}
	}
	return nil
}

// appendAAD appends what is authenticated with a body.
//
//	opaque part<0..2^32-1>;
//	struct { part label, format, class, key_id, algorithm, tenant, type, id, pointer; } AAD;
func appendAAD(b []byte, class Class, keyID string, alg uint8, c *Context) []byte {
	b = appendPart(b, labelBody)
	b = append(b, 0, 0, 0, 1, formatVersion, 0, 0, 0, 1, byte(class))
	b = appendPart(b, keyID)
	b = append(b, 0, 0, 0, 1, alg)
	b = appendPart(b, c.Tenant)
	b = appendPart(b, c.Type)
	b = appendPart(b, c.ID)
	return appendPart(b, c.Pointer)
}

// wrapContext is what a data key is bound to when it is wrapped: the tenant,
// or the document, or the single value, as the class has it. It is nil for a
// key that takes no context.
//
//	struct { part label, class, key_id, tenant; } TenantKey;              // internal, confidential
//	struct { part label, class, key_id, tenant, type, id; } DocumentKey;  // restricted
//	struct { part label, class, key_id, tenant, type, id, pointer; } ValueKey; // top_secret
func wrapContext(class Class, keyID string, t Type, c *Context) []byte {
	if t != AES256 {
		return nil
	}
	b := make([]byte, 0, 128)
	b = appendPart(b, labelDataKey)
	b = append(b, 0, 0, 0, 1, byte(class))
	b = appendPart(b, keyID)
	b = appendPart(b, c.Tenant)
	if class >= Restricted {
		b = appendPart(b, c.Type)
		b = appendPart(b, c.ID)
	}
	if class >= TopSecret {
		b = appendPart(b, c.Pointer)
	}
	return b
}

func appendPart(b []byte, part string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}
