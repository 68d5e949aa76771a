package storage_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// kept is an entry of a snapshot with its bucket.
type kept struct {
	bucket string
	entry  storage.Entry
}

func created() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 123456000, time.UTC) }

func samples() []kept {
	return []kept{
		{"bundles", storage.Entry{Key: "active", Value: []byte("r1")}},
		{"bundles", storage.Entry{Key: "history.1", Value: []byte{}}},
		{"sessions", storage.Entry{Key: "a", Value: bytes.Repeat([]byte("v"), 5000), Expires: created().Add(time.Hour)}},
	}
}

func writeSnapshot(at time.Time, all []kept) ([]byte, error) {
	var out bytes.Buffer
	w := storage.NewSnapshotWriter(&out, at)
	for _, k := range all {
		if err := w.Add(k.bucket, k.entry); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func readSnapshot(r io.Reader) (at time.Time, all []kept, err error) {
	s, err := storage.NewSnapshotReader(r)
	if err != nil {
		return time.Time{}, nil, err
	}
	for {
		bucket, e, err := s.Next()
		if errors.Is(err, io.EOF) {
			return s.Created(), all, nil
		}
		if err != nil {
			return time.Time{}, nil, err
		}
		all = append(all, kept{bucket, e})
	}
}

func mustWrite(t testing.TB, all []kept) []byte {
	t.Helper()
	b, err := writeSnapshot(created(), all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, all := range [][]kept{nil, samples()} {
		stream := mustWrite(t, all)
		at, got, err := readSnapshot(iotest.OneByteReader(bytes.NewReader(stream)))
		if err != nil || !at.Equal(created()) || len(got) != len(all) {
			t.Fatalf("read %d entries of %v, %v, want %d", len(got), at, err, len(all))
		}
		for i, k := range got {
			w := all[i]
			if k.bucket != w.bucket || k.entry.Key != w.entry.Key || !bytes.Equal(k.entry.Value, w.entry.Value) || !k.entry.Expires.Equal(w.entry.Expires) {
				t.Errorf("entry %d is %+v, want %+v", i, k, w)
			}
		}
	}
}

func TestSnapshotDamage(t *testing.T) {
	small := samples()
	small[2].entry.Value = []byte("v")
	stream := mustWrite(t, small)
	for n := range stream {
		if _, _, err := readSnapshot(bytes.NewReader(stream[:n])); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("cut off after %d bytes: %v, want ErrDamaged", n, err)
		}
		for bit := range 8 {
			changed := slices.Clone(stream)
			changed[n] ^= 1 << bit
			_, _, err := readSnapshot(bytes.NewReader(changed))
			if !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, storage.ErrFormat) {
				t.Errorf("byte %d, bit %d changed: %v, want ErrDamaged", n, bit, err)
			}
		}
	}
	if _, _, err := readSnapshot(bytes.NewReader(append(slices.Clone(stream), 0))); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("one byte more: %v, want ErrDamaged", err)
	}
	broken := errors.New("broken pipe")
	if _, _, err := readSnapshot(io.MultiReader(bytes.NewReader(stream[:40]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, storage.ErrDamaged) {
		t.Errorf("failing reader: %v", err)
	}
}

func TestSnapshotNewerFormat(t *testing.T) {
	stream := mustWrite(t, samples())
	binary.BigEndian.PutUint32(stream[len("verdict-state\n"):], storage.SnapshotFormat+1)
	_, _, err := readSnapshot(bytes.NewReader(stream))
	if !errors.Is(err, storage.ErrFormat) || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("newer format: %v", err)
	}
}

func TestSnapshotOrder(t *testing.T) {
	all := samples()
	for name, order := range map[string][]kept{
		"keys":        {all[1], all[0]},
		"key twice":   {all[0], all[0]},
		"buckets":     {all[2], all[0]},
		"wrong key":   {{"a", storage.Entry{Key: "."}}},
		"wrong name":  {{"A", storage.Entry{Key: "a"}}},
		"long value":  {{"a", storage.Entry{Key: "a", Value: make([]byte, storage.MaxValue+1)}}},
		"wrong until": {{"a", storage.Entry{Key: "a", Expires: time.Unix(-1, 0)}}},
	} {
		if _, err := writeSnapshot(created(), order); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestSnapshotWriterFails(t *testing.T) {
	full := errors.New("full")
	w := storage.NewSnapshotWriter(failing{full}, created())
	for i := range 100 {
		_ = w.Add("a", storage.Entry{Key: fmt.Sprintf("k%03d", i), Value: make([]byte, 1000)})
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close = %v, want the writer's error", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzSnapshot: no panic, what is read is written as the same bytes, an error
// comes without entries.
func FuzzSnapshot(f *testing.F) {
	seeds := [][]byte{mustWrite(f, nil), mustWrite(f, samples())}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
		f.Add(s[:len(s)/2])
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		at, all, err := readSnapshot(bytes.NewReader(stream))
		if err != nil {
			if all != nil || !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, storage.ErrFormat) {
				t.Fatalf("%d entries with %v", len(all), err)
			}
			return
		}
		again, err := writeSnapshot(at, all)
		if err != nil || !bytes.Equal(again, stream) {
			t.Fatalf("written again: %d bytes, %v, want the same %d", len(again), err, len(stream))
		}
	})
}
