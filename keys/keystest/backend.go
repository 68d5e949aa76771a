package keystest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
)

// suite is one test of a backend with names of its own.
type suite struct {
	*testing.T
	b      keys.Backend
	prefix string
}

func testBackend(t *testing.T, b keys.Backend) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"ensure and list", testEnsure},
		{"unknown key", testUnknownKey},
		{"data keys", testDataKeys},
		{"data keys, partial failures", testPartialFailures},
		{"data keys after rotation", testRotation},
		{"minimums and trim", testMinimums},
		{"data keys under RSA", testRSA},
		{"signatures", testSignatures},
		{"MACs", testMACs},
		{"import", testImport},
		{"wrong use", testWrongUse},
		{"concurrency", testConcurrency},
		{"ended context", testEndedContext},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&suite{T: t, b: b, prefix: Unique(t)}) })
	}
}

func (s *suite) ensure(name string, t keys.Type) string {
	s.Helper()
	name = s.prefix + name
	if _, _, err := s.b.Ensure(s.Context(), name, t); err != nil {
		s.Fatalf("ensure %s: %v", name, err)
	}
	return name
}

func (s *suite) dataKey(name string, bound []byte) keys.DataKey {
	s.Helper()
	made, err := s.b.DataKeys(s.Context(), name, [][]byte{bound})
	if err != nil || len(made) != 1 || made[0].Err != nil {
		s.Fatalf("data key: %v, %+v", err, made)
	}
	return made[0]
}

func (s *suite) unwrap(name string, w keys.WrappedKey, bound []byte) ([]byte, error) {
	s.Helper()
	opened, err := s.b.Unwrap(s.Context(), name, []keys.Sealed{{WrappedKey: w, Context: bound}})
	if err != nil || len(opened) != 1 {
		s.Fatalf("unwrap: %v, %d results", err, len(opened))
	}
	return opened[0].Plaintext, opened[0].Err
}

func (s *suite) rotate(name string) keys.Key {
	s.Helper()
	k, err := s.b.Rotate(s.Context(), name)
	if err != nil {
		s.Fatalf("rotate: %v", err)
	}
	return k
}

func testEnsure(s *suite) {
	before := time.Now().Add(-time.Minute)
	types := []keys.Type{keys.AES256, keys.RSA4096, keys.Ed25519, keys.ECDSAP256, keys.HMAC}
	var want []string
	for i, t := range types {
		name := fmt.Sprintf("%sk%d", s.prefix, i)
		want = append(want, name)
		k, created, err := s.b.Ensure(s.Context(), name, t)
		if err != nil || !created {
			s.Fatalf("ensure %s: created %v, %v", t, created, err)
		}
		if k.Name != name || k.Type != t || k.Latest != 1 || k.MinDecrypt != 1 || k.MinEncrypt != 1 || len(k.Versions) != 1 {
			s.Errorf("%s: %+v", t, k)
		}
		if v := k.Versions[0]; v.Number != 1 || v.Created.Before(before) && (t != keys.HMAC || !v.Created.IsZero()) || (v.Public != nil) == (t == keys.AES256 || t == keys.HMAC) {
			s.Errorf("%s: version %+v", t, v)
		}
		if k, created, err = s.b.Ensure(s.Context(), name, t); err != nil || created || k.Latest != 1 {
			s.Errorf("ensure %s again: created %v, %+v, %v", t, created, k, err)
		}
	}
	if _, _, err := s.b.Ensure(s.Context(), want[0], keys.HMAC); !errors.Is(err, keys.ErrKeyMismatch) {
		s.Errorf("another type: %v", err)
	}
	got, err := s.b.List(s.Context(), s.prefix)
	if err != nil || !slices.Equal(got, want) {
		s.Errorf("list: %q, %v; want %q", got, err, want)
	}
	if got, err := s.b.List(s.Context(), s.prefix+"none"); err != nil || len(got) != 0 {
		s.Errorf("list of nothing: %q, %v", got, err)
	}
}

func testUnknownKey(s *suite) {
	ctx, name := s.Context(), s.prefix+"none"
	one := [][]byte{[]byte("x")}
	for operation, call := range map[string]func() error{
		"describe":  func() error { _, err := s.b.Describe(ctx, name); return err },
		"rotate":    func() error { _, err := s.b.Rotate(ctx, name); return err },
		"minimums":  func() error { _, err := s.b.SetMinimums(ctx, name, keys.Minimums{Encrypt: 1}); return err },
		"trim":      func() error { _, err := s.b.Trim(ctx, name); return err },
		"data keys": func() error { _, err := s.b.DataKeys(ctx, name, one); return err },
		"unwrap": func() error {
			_, err := s.b.Unwrap(ctx, name, []keys.Sealed{{WrappedKey: keys.WrappedKey{Version: 1, Blob: make([]byte, 60)}, Context: one[0]}})
			return err
		},
		"rewrap": func() error {
			_, err := s.b.Rewrap(ctx, name, []keys.Sealed{{WrappedKey: keys.WrappedKey{Version: 1, Blob: make([]byte, 60)}, Context: one[0]}})
			return err
		},
		"sign": func() error { _, err := s.b.Sign(ctx, name, 0, keys.EdDSA, one); return err },
		"mac":  func() error { _, err := s.b.MAC(ctx, name, 0, one); return err },
		"check": func() error {
			_, err := s.b.VerifyMAC(ctx, name, []keys.MACCheck{{Message: one[0], Tag: keys.Tag{Version: 1, Bytes: make([]byte, 32)}}})
			return err
		},
	} {
		if err := call(); !errors.Is(err, keys.ErrKeyUnknown) {
			s.Errorf("%s: %v", operation, err)
		}
	}
}

func testDataKeys(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	bound := []byte("tenant\x00a")
	made, err := s.b.DataKeys(s.Context(), name, [][]byte{bound, bound, []byte("other")})
	if err != nil || len(made) != 3 {
		s.Fatalf("%d data keys, %v", len(made), err)
	}
	for i, m := range made {
		if m.Err != nil || len(m.Plaintext) != keys.DataKeySize || m.Wrapped.Version != 1 || len(m.Wrapped.Blob) > keys.MaxWrapped {
			s.Fatalf("data key %d: %v, %d bytes, version %d", i, m.Err, len(m.Plaintext), m.Wrapped.Version)
		}
	}
	if bytes.Equal(made[0].Plaintext, made[1].Plaintext) || bytes.Equal(made[0].Wrapped.Blob, made[1].Wrapped.Blob) {
		s.Error("two data keys are the same")
	}
	w := made[0].Wrapped
	if plain, err := s.unwrap(name, w, bound); err != nil || !bytes.Equal(plain, made[0].Plaintext) {
		s.Errorf("unwrap: %v", err)
	}
	for _, other := range [][]byte{[]byte("tenant\x00b"), []byte("tenant\x00a\x00"), []byte("t")} {
		if _, err := s.unwrap(name, w, other); !errors.Is(err, keys.ErrInvalid) {
			s.Errorf("context %q: %v", other, err)
		}
	}
	other := s.ensure("wrap2", keys.AES256)
	if _, err := s.unwrap(other, w, bound); !errors.Is(err, keys.ErrInvalid) {
		s.Errorf("another key: %v", err)
	}
	s.damaged(name, w, bound)
	for _, version := range []uint32{0, 2, 1 << 30} {
		if _, err := s.unwrap(name, keys.WrappedKey{Version: version, Blob: w.Blob}, bound); !errors.Is(err, keys.ErrVersionDisallowed) {
			s.Errorf("version %d: %v", version, err)
		}
	}
}

// damaged unwraps every change of one bit a byte, and every length.
func (s *suite) damaged(name string, w keys.WrappedKey, bound []byte) {
	s.Helper()
	var items []keys.Sealed
	for i := range w.Blob {
		flipped := bytes.Clone(w.Blob)
		flipped[i] ^= 1 << (i % 8)
		items = append(items, keys.Sealed{WrappedKey: keys.WrappedKey{Version: w.Version, Blob: flipped}, Context: bound})
		if len(w.Blob) < 100 || i%32 == 0 {
			items = append(items, keys.Sealed{WrappedKey: keys.WrappedKey{Version: w.Version, Blob: w.Blob[:i]}, Context: bound})
		}
	}
	opened, err := s.b.Unwrap(s.Context(), name, items)
	if err != nil || len(opened) != len(items) {
		s.Fatalf("unwrap: %v, %d results", err, len(opened))
	}
	for i, o := range opened {
		if !errors.Is(o.Err, keys.ErrInvalid) || o.Plaintext != nil {
			s.Errorf("damaged %d of %d bytes: %v", i, len(items[i].Blob), o.Err)
		}
	}
}

func testPartialFailures(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	var items []keys.Sealed
	var want [][]byte
	for i := range 40 {
		bound := fmt.Appendf(nil, "context %d", i)
		k := s.dataKey(name, bound)
		want = append(want, k.Plaintext)
		switch i % 4 {
		case 1:
			bound = []byte("wrong")
		case 2:
			k.Wrapped.Version = 9
		}
		items = append(items, keys.Sealed{WrappedKey: k.Wrapped, Context: bound})
	}
	opened, err := s.b.Unwrap(s.Context(), name, items)
	if err != nil || len(opened) != len(items) {
		s.Fatalf("unwrap: %v, %d results", err, len(opened))
	}
	wrapped, err := s.b.Rewrap(s.Context(), name, items)
	if err != nil || len(wrapped) != len(items) {
		s.Fatalf("rewrap: %v, %d results", err, len(wrapped))
	}
	expected := []error{nil, keys.ErrInvalid, keys.ErrVersionDisallowed, nil}
	for i := range items {
		if err := expected[i%4]; !errors.Is(opened[i].Err, err) || !errors.Is(wrapped[i].Err, err) {
			s.Errorf("item %d: %v, %v; want %v", i, opened[i].Err, wrapped[i].Err, err)
		}
		if opened[i].Err == nil && !bytes.Equal(opened[i].Plaintext, want[i]) {
			s.Errorf("item %d: another data key", i)
		}
	}
	for _, bad := range []int{1, 2} { // a batch in which every item fails
		opened, err = s.b.Unwrap(s.Context(), name, []keys.Sealed{items[bad], items[bad]})
		if err != nil || len(opened) != 2 || !errors.Is(opened[0].Err, expected[bad]) || !errors.Is(opened[1].Err, expected[bad]) {
			s.Errorf("all bad: %v, %+v", err, opened)
		}
	}
}

func testRotation(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	bound := []byte("context")
	old := s.dataKey(name, bound)
	k := s.rotate(name)
	if k.Latest != 2 || k.MinDecrypt != 1 || k.MinEncrypt != 1 || len(k.Versions) != 2 || k.Versions[1].Number != 2 ||
		k.Versions[1].Created.Before(k.Versions[0].Created) {
		s.Fatalf("rotated: %+v", k)
	}
	if fresh := s.dataKey(name, bound); fresh.Wrapped.Version != 2 {
		s.Errorf("wrapped with version %d after rotation", fresh.Wrapped.Version)
	}
	if plain, err := s.unwrap(name, old.Wrapped, bound); err != nil || !bytes.Equal(plain, old.Plaintext) {
		s.Errorf("old version: %v", err)
	}
	if _, err := s.unwrap(name, keys.WrappedKey{Version: 2, Blob: old.Wrapped.Blob}, bound); !errors.Is(err, keys.ErrInvalid) {
		s.Errorf("under the wrong version: %v", err)
	}
	wrapped, err := s.b.Rewrap(s.Context(), name, []keys.Sealed{{WrappedKey: old.Wrapped, Context: bound}, {WrappedKey: old.Wrapped, Context: []byte("x")}})
	if err != nil || len(wrapped) != 2 || wrapped[0].Err != nil || wrapped[0].Version != 2 || !errors.Is(wrapped[1].Err, keys.ErrInvalid) {
		s.Fatalf("rewrap: %v, %+v", err, wrapped)
	}
	if plain, err := s.unwrap(name, wrapped[0].WrappedKey, bound); err != nil || !bytes.Equal(plain, old.Plaintext) {
		s.Errorf("rewrapped: %v", err)
	}
	if _, err := s.unwrap(name, wrapped[0].WrappedKey, []byte("x")); !errors.Is(err, keys.ErrInvalid) {
		s.Errorf("rewrapped, other context: %v", err)
	}
}

func testMinimums(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	bound := []byte("context")
	set := func(decrypt, encrypt uint32) (keys.Key, error) {
		return s.b.SetMinimums(s.Context(), name, keys.Minimums{Decrypt: decrypt, Encrypt: encrypt})
	}
	first := s.dataKey(name, bound)
	s.rotate(name)
	second := s.dataKey(name, bound)
	s.rotate(name)
	for _, wrong := range [][2]uint32{{4, 4}, {0, 4}, {3, 2}, {2, 1}} {
		if _, err := set(wrong[0], wrong[1]); !errors.Is(err, keys.ErrVersionDisallowed) {
			s.Errorf("minimums %v: %v", wrong, err)
		}
	}
	if k, err := set(0, 3); err != nil || k.MinDecrypt != 1 || k.MinEncrypt != 3 {
		s.Fatalf("encrypt from 3: %+v, %v", k, err)
	}
	if _, err := s.unwrap(name, first.Wrapped, bound); err != nil {
		s.Errorf("below the minimum to encrypt: %v", err)
	}
	if k, err := set(2, 0); err != nil || k.MinDecrypt != 2 || k.MinEncrypt != 3 {
		s.Fatalf("decrypt from 2: %+v, %v", k, err)
	}
	if _, err := s.unwrap(name, first.Wrapped, bound); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("below the minimum: %v", err)
	}
	if _, err := set(1, 0); err != nil {
		s.Errorf("lowered: %v", err)
	}
	if _, err := s.unwrap(name, first.Wrapped, bound); err != nil {
		s.Errorf("lowered again: %v", err)
	}
	if _, err := set(2, 3); err != nil {
		s.Fatal(err)
	}
	k, err := s.b.Trim(s.Context(), name)
	if err != nil || k.MinDecrypt != 2 || k.Latest != 3 || k.Versions[0].Number != 2 {
		s.Fatalf("trim: %+v, %v", k, err)
	}
	if _, err := set(1, 0); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("lowered below what is held: %v", err)
	}
	if _, err := s.unwrap(name, first.Wrapped, bound); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("trimmed: %v", err)
	}
	if plain, err := s.unwrap(name, second.Wrapped, bound); err != nil || !bytes.Equal(plain, second.Plaintext) {
		s.Errorf("not trimmed: %v", err)
	}
}

func testRSA(s *suite) {
	name := s.ensure("rsa", keys.RSA4096)
	made, err := s.b.DataKeys(s.Context(), name, [][]byte{nil, nil})
	if err != nil || len(made) != 2 || made[0].Err != nil || made[1].Err != nil {
		s.Fatalf("data keys: %v, %+v", err, made)
	}
	old := made[0]
	if plain, err := s.unwrap(name, old.Wrapped, nil); err != nil || !bytes.Equal(plain, old.Plaintext) {
		s.Errorf("unwrap: %v", err)
	}
	flipped := bytes.Clone(old.Wrapped.Blob)
	flipped[100] ^= 4
	for _, blob := range [][]byte{flipped, old.Wrapped.Blob[:511], append(bytes.Clone(old.Wrapped.Blob), 0), {1}} {
		if _, err := s.unwrap(name, keys.WrappedKey{Version: 1, Blob: blob}, nil); !errors.Is(err, keys.ErrInvalid) {
			s.Errorf("%d damaged bytes: %v", len(blob), err)
		}
	}
	s.rotate(name)
	wrapped, err := s.b.Rewrap(s.Context(), name, []keys.Sealed{{WrappedKey: old.Wrapped}})
	if err != nil || len(wrapped) != 1 || wrapped[0].Err != nil || wrapped[0].Version != 2 {
		s.Fatalf("rewrap: %v, %+v", err, wrapped)
	}
	if plain, err := s.unwrap(name, wrapped[0].WrappedKey, nil); err != nil || !bytes.Equal(plain, old.Plaintext) {
		s.Errorf("rewrapped: %v", err)
	}
}

func testConcurrency(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	const workers, rounds, rotations = 6, 10, 4
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			bound := fmt.Appendf(nil, "worker %d", w)
			for range rounds {
				made, err := s.b.DataKeys(s.Context(), name, [][]byte{bound})
				if err != nil || made[0].Err != nil {
					s.Errorf("data key: %v", err)
					return
				}
				opened, err := s.b.Unwrap(s.Context(), name, []keys.Sealed{{WrappedKey: made[0].Wrapped, Context: bound}})
				if err != nil || opened[0].Err != nil || !bytes.Equal(opened[0].Plaintext, made[0].Plaintext) {
					s.Errorf("unwrap: %v", err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range rotations {
			if _, err := s.b.Rotate(s.Context(), name); err != nil {
				s.Errorf("rotate: %v", err)
			}
		}
	})
	wg.Wait()
	if k, err := s.b.Describe(s.Context(), name); err != nil || k.Latest != 1+rotations || len(k.Versions) != 1+rotations {
		s.Errorf("after %d rotations: %+v, %v", rotations, k, err)
	}
}

func testEndedContext(s *suite) {
	name := s.ensure("wrap", keys.AES256)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.b.DataKeys(ctx, name, [][]byte{[]byte("x")}); !errors.Is(err, context.Canceled) {
		s.Errorf("data keys: %v", err)
	}
	if _, err := s.b.Describe(ctx, name); !errors.Is(err, context.Canceled) {
		s.Errorf("describe: %v", err)
	}
}
