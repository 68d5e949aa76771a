package boltfile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/internal/boltfile"
)

const pageSize = 4096

func nothing(string, []byte, []byte) error { return nil }

// made writes a file with a large and a small bucket and some free pages.
func made(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	f, err := boltfile.Open(path, boltfile.Options{PageSize: pageSize, Grow: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		err = f.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{"large", "small"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				for i := range map[string]int{"large": 600, "small": 2}[name] {
					if err := b.Put(fmt.Appendf(nil, "key %04d", i), []byte(strings.Repeat("v", 20+round))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInspectVisitsEverything(t *testing.T) {
	found := map[string]int{}
	err := boltfile.Inspect(made(t), func(bucket string, key, value []byte) error {
		if len(value) != 22 || !strings.HasPrefix(string(key), "key ") {
			t.Errorf("%s: %q is %q", bucket, key, value)
		}
		found[bucket]++
		return nil
	})
	if err != nil || found["large"] != 600 || found["small"] != 2 {
		t.Errorf("visited %v, error %v", found, err)
	}
	stop := errors.New("enough")
	if err := boltfile.Inspect(made(t), func(string, []byte, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the visitor's error became %v", err)
	}
}

func TestInspectFindsDamage(t *testing.T) {
	path := made(t)
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"text":        func([]byte) []byte { return []byte(strings.Repeat("no database ", 1000)) },
		"cut off":     func(b []byte) []byte { return b[:5*pageSize] },
		"first meta":  func(b []byte) []byte { b[20] ^= 1; return b },
		"second meta": func(b []byte) []byte { b[pageSize+70] ^= 1; return b },
		"swapped metas": func(b []byte) []byte {
			return append(append(b[pageSize:2*pageSize:2*pageSize], b[:pageSize]...), b[2*pageSize:]...)
		},
		"a key's order":  func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "key 0300", "key 0999")) },
		"no such folder": nil,
	} {
		t.Run(name, func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "x.db")
			if change != nil {
				if err := os.WriteFile(other, change([]byte(string(sound))), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := boltfile.Inspect(other, nothing)
			if change == nil {
				if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("got %v", err)
				}
				return
			}
			if !errors.Is(err, boltfile.ErrDamaged) {
				t.Errorf("got %v, want damage", err)
			}
		})
	}
}

// TestHostileFiles changes some bytes of a sound file many times: either that is
// found, or the file can be read and written without a panic.
func TestHostileFiles(t *testing.T) {
	sound, err := os.ReadFile(made(t))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		changed := []byte(string(sound))
		for range 1 + random.IntN(3) {
			changed[2*pageSize+random.IntN(len(changed)-2*pageSize)] ^= byte(1 + random.IntN(255))
		}
		use(t, changed)
	}
}

func FuzzOpen(f *testing.F) {
	sound, err := os.ReadFile(made(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte("x"))
	f.Add(uint32(2*pageSize+8), []byte{1, 0, 0xFF, 0xFF, 0xFF})
	f.Add(uint32(5*pageSize+16), []byte{0, 0, 0, 0, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		changed := []byte(string(sound))
		copy(changed[int(at)%len(changed):], with)
		use(t, changed)
	})
}

// use inspects a file and, when it is found sound, reads and writes it.
func use(t *testing.T, content []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if boltfile.Inspect(path, nothing) != nil {
		return
	}
	f, err := boltfile.Open(path, boltfile.Options{})
	if err != nil {
		return
	}
	_ = f.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return b.ForEach(func(_, _ []byte) error { return nil }) })
	})
	_ = f.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("large"))
		if err != nil {
			return err
		}
		return b.Put([]byte("key 0100a"), []byte("new"))
	})
	_ = f.Close()
}

func TestAPanicInAWrite(t *testing.T) {
	f, err := boltfile.Open(made(t), boltfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = f.Update(func(*bolt.Tx) error { panic("page 7") })
	if !errors.Is(err, boltfile.ErrDamaged) || !f.Stuck() {
		t.Errorf("got %v, stuck is %t", err, f.Stuck())
	}
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
