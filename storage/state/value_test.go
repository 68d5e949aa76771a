package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
)

func framed() []storage.Entry {
	return []storage.Entry{
		{Key: "a", Revision: 1},
		{Key: "a.b", Value: []byte("value"), Revision: 1 << 40, Expires: time.UnixMicro(1795424400123456)},
	}
}

func TestValue(t *testing.T) {
	for _, e := range framed() {
		stored := state.AppendValue(nil, "bucket", &e)
		got, err := state.ParseValue("bucket", e.Key, stored)
		if err != nil || got.Revision != e.Revision || !got.Expires.Equal(e.Expires) || !bytes.Equal(got.Value, e.Value) {
			t.Errorf("got %+v, %v, want %+v", got, err, e)
		}
		for n := range stored {
			_, err := state.ParseValue("bucket", e.Key, stored[:n])
			stored[n] ^= 0x10
			_, changed := state.ParseValue("bucket", e.Key, stored)
			stored[n] ^= 0x10
			if !errors.Is(err, storage.ErrDamaged) || !errors.Is(changed, storage.ErrDamaged) {
				t.Errorf("cut off at %d: %v, changed there: %v", n, err, changed)
			}
		}
		if _, err := state.ParseValue("bucket", "other", stored); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("under another key: %v", err)
		}
		if _, err := state.ParseValue("other", e.Key, stored); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("in another bucket: %v", err)
		}
	}
}

// FuzzValue: no panic, what is parsed is framed as the same bytes, an error
// comes without an entry.
func FuzzValue(f *testing.F) {
	for _, e := range framed() {
		f.Add("bucket", e.Key, state.AppendValue(nil, "bucket", &e))
	}
	f.Fuzz(func(t *testing.T, bucket, key string, stored []byte) {
		e, err := state.ParseValue(bucket, key, stored)
		if err != nil {
			if e.Key != "" || e.Revision != 0 || e.Value != nil || !e.Expires.IsZero() || !errors.Is(err, storage.ErrDamaged) {
				t.Fatalf("%+v with %v", e, err)
			}
			return
		}
		if again := state.AppendValue(nil, bucket, &e); !bytes.Equal(again, stored) {
			t.Fatalf("framed again: %x, want %x", again, stored)
		}
	})
}

// The checksum is the CRC-32C of what the file's description says.
func TestValueChecksum(t *testing.T) {
	stored := state.AppendValue(nil, "bucket", &storage.Entry{Key: "a.b", Value: []byte("value"), Revision: 7})
	body := stored[:len(stored)-4]
	want := crc32.Checksum(append([]byte("bucket\x00a.b\x00"), body...), crc32.MakeTable(crc32.Castagnoli))
	if got := binary.BigEndian.Uint32(stored[len(body):]); got != want {
		t.Errorf("checksum %08x, want %08x", got, want)
	}
}
