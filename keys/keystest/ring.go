package keystest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
)

// encrypted are the classes whose values are encrypted.
func encrypted() []keys.Class {
	return []keys.Class{keys.Internal, keys.Confidential, keys.Restricted, keys.TopSecret}
}

// ringSuite is one test of a ring with keys of its own.
type ringSuite struct {
	*testing.T
	b   keys.Backend
	r   *keys.Ring
	rec *Recorder
}

func testRing(t *testing.T, b keys.Backend) {
	for _, test := range []struct {
		name string
		run  func(*ringSuite)
	}{
		{"round trip", testRoundTrip},
		{"public", testPublic},
		{"other context", testOtherContext},
		{"damaged", testDamaged},
		{"other class or key", testSwapped},
		{"forged with the public key", testForged},
		{"versions", testVersions},
		{"rewrap", testRewrap},
		{"reencrypt", testReencrypt},
		{"partial failures", testRingPartial},
		{"concurrent rotation", testRingConcurrency},
		{"signatures and MACs", testRingSigns},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, rec := Ring(t, b, keys.Options{})
			test.run(&ringSuite{T: t, b: b, r: r, rec: rec})
		})
	}
}

var home = keys.Context{Tenant: "acme", Type: "customer", ID: "17", Pointer: "/ssn"}

func (s *ringSuite) encrypt(c keys.Class, where keys.Context, data string) string {
	s.Helper()
	text, err := s.r.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: c, Context: where, Data: []byte(data)})
	if err != nil {
		s.Fatalf("encrypt %v: %v", c, err)
	}
	return text
}

func (s *ringSuite) opens(text string, where keys.Context, want string) {
	s.Helper()
	got, err := s.r.DecryptOne(s.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: where})
	if err != nil || string(got) != want {
		s.Errorf("decrypt: %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func (s *ringSuite) refuses(text string, where keys.Context, want error) {
	s.Helper()
	got, err := s.r.DecryptOne(s.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: where})
	if !errors.Is(err, want) || got != nil {
		s.Errorf("decrypt: %d bytes, %v; want %v", len(got), err, want)
	}
	if err != nil && errors.Is(want, keys.ErrInvalid) && err.Error() != keys.ErrInvalid.Error() {
		s.Errorf("the error tells more than %q: %q", keys.ErrInvalid, err)
	}
}

func testRoundTrip(s *ringSuite) {
	var values []keys.Value
	for _, c := range encrypted() {
		for _, size := range []int{0, 1, 40, 446, 447, 100_000} {
			for i, where := range []keys.Context{home, {}, {Tenant: "acme"}, {Tenant: "acme", Type: "customer", ID: "17"}} {
				if size > 447 && i > 0 {
					continue
				}
				values = append(values, keys.Value{Class: c, Context: where, Data: bytes.Repeat([]byte{'x'}, size)})
			}
		}
	}
	sealed, err := s.r.Encrypt(s.Context(), keys.By{}, values)
	if err != nil || len(sealed) != len(values) {
		s.Fatalf("encrypt: %v, %d results", err, len(sealed))
	}
	items, seen := make([]keys.Ciphertext, len(sealed)), map[string]bool{}
	for i, e := range sealed {
		if e.Err != nil || seen[e.Text] || e.Version != 1 || e.KeyID != s.r.ClassID(values[i].Class) {
			s.Fatalf("value %d: %v, key %s version %d", i, e.Err, e.KeyID, e.Version)
		}
		seen[e.Text] = true
		items[i] = keys.Ciphertext{Text: e.Text, Context: values[i].Context}
		h, err := keys.Inspect(e.Text)
		if err != nil || h.Class != values[i].Class || h.KeyID != e.KeyID || h.Version != 1 {
			s.Errorf("value %d: header %+v, %v", i, h, err)
		}
	}
	opened, err := s.r.Decrypt(s.Context(), keys.By{}, items)
	if err != nil || len(opened) != len(items) {
		s.Fatalf("decrypt: %v, %d results", err, len(opened))
	}
	for i, o := range opened {
		if o.Err != nil || !bytes.Equal(o.Data, values[i].Data) || o.Data == nil || o.Class != values[i].Class {
			s.Errorf("value %d: %v, %d bytes of class %v", i, o.Err, len(o.Data), o.Class)
		}
	}
	if n := len(s.rec.Events(keys.EventCreated)); n != 5 { // four classes, and the MACs of top_secret
		s.Errorf("%d keys were recorded as created", n)
	}
	if n := len(s.rec.Events(keys.EventOpeningFailed)); n != 0 {
		s.Errorf("%d records of values that did not open", n)
	}
}

func testPublic(s *ringSuite) {
	for _, c := range []keys.Class{keys.Public, 0, 6} {
		_, err := s.r.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: c, Data: []byte("x")})
		if !errors.Is(err, keys.ErrNotEncrypted) {
			s.Errorf("class %d: %v", c, err)
		}
	}
	long := keys.Context{Pointer: strings.Repeat("/", keys.MaxContextPart+1)}
	_, err := s.r.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: keys.Internal, Context: long})
	if !errors.Is(err, keys.ErrTooLarge) {
		s.Errorf("long pointer: %v", err)
	}
	_, err = s.r.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: keys.Internal, Data: make([]byte, keys.MaxPlaintext+1)})
	if !errors.Is(err, keys.ErrTooLarge) {
		s.Errorf("long value: %v", err)
	}
}

func testOtherContext(s *ringSuite) {
	for _, c := range encrypted() {
		text := s.encrypt(c, home, "value")
		s.opens(text, home, "value")
		for _, where := range []keys.Context{
			{},
			{Tenant: "other", Type: "customer", ID: "17", Pointer: "/ssn"},
			{Type: "customer", ID: "17", Pointer: "/ssn"},
			{Tenant: "acme", Type: "supplier", ID: "17", Pointer: "/ssn"},
			{Tenant: "acme", Type: "customer", ID: "18", Pointer: "/ssn"},
			{Tenant: "acme", Type: "customer", ID: "17", Pointer: "/name"},
			{Tenant: "acmec", Type: "ustomer", ID: "17", Pointer: "/ssn"},
			{Tenant: "acme", Type: "customer", ID: "17/ssn"},
		} {
			s.refuses(text, where, keys.ErrInvalid)
		}
		s.opens(text, home, "value")
	}
	if n := len(s.rec.Events(keys.EventOpeningFailed)); n != 8*len(encrypted()) {
		s.Errorf("%d records of values that did not open", n)
	}
}

func testVersions(s *ringSuite) {
	for _, c := range encrypted() {
		id := s.r.ClassID(c)
		old := s.encrypt(c, home, "old")
		if _, err := s.r.Rotate(s.Context(), keys.By{}, id); err != nil {
			s.Fatal(err)
		}
		fresh := s.encrypt(c, home, "new")
		if h, err := keys.Inspect(fresh); err != nil || h.Version != 2 {
			s.Errorf("%v: version %d after rotation, %v", c, h.Version, err)
		}
		s.opens(old, home, "old")
		s.opens(fresh, home, "new")
		if _, err := s.r.Retire(s.Context(), keys.By{}, id, 0); err != nil {
			s.Fatal(err)
		}
		s.refuses(old, home, keys.ErrVersionDisallowed)
		s.opens(fresh, home, "new")
	}
}

func testRewrap(s *ringSuite) {
	for _, c := range encrypted() {
		id := s.r.ClassID(c)
		old := s.encrypt(c, home, "value")
		if _, err := s.r.Rotate(s.Context(), keys.By{}, id); err != nil {
			s.Fatal(err)
		}
		results, err := s.r.Rewrap(s.Context(), keys.By{}, []keys.Ciphertext{{Text: old, Context: home}, {Text: "vd1.", Context: home}})
		if err != nil || len(results) != 2 || results[0].Err != nil || results[0].Version != 2 || !errors.Is(results[1].Err, keys.ErrMalformed) {
			s.Fatalf("%v: rewrap: %v, %+v", c, err, results)
		}
		before, _ := Decode(old)
		after, err := Decode(results[0].Text)
		if err != nil || after.Version != 2 || !bytes.Equal(after.Body, before.Body) || bytes.Equal(after.Wrapped, before.Wrapped) {
			s.Errorf("%v: the envelope after rewrap: %v", c, err)
		}
		if _, err := s.r.Retire(s.Context(), keys.By{}, id, 2); err != nil {
			s.Fatal(err)
		}
		s.opens(results[0].Text, home, "value")
		s.refuses(results[0].Text, keys.Context{}, keys.ErrInvalid)
		s.refuses(old, home, keys.ErrVersionDisallowed)
	}
}

func testReencrypt(s *ringSuite) {
	moved := keys.Context{Tenant: "acme", Type: "customer", ID: "18", Pointer: "/ssn"}
	items := []keys.Reencryption{
		{Ciphertext: keys.Ciphertext{Text: s.encrypt(keys.Internal, home, "one"), Context: home}},
		{Ciphertext: keys.Ciphertext{Text: s.encrypt(keys.Restricted, home, "two"), Context: home}, Class: keys.TopSecret, To: &moved},
		{Ciphertext: keys.Ciphertext{Text: s.encrypt(keys.Restricted, home, "three"), Context: moved}},
		{Ciphertext: keys.Ciphertext{Text: s.encrypt(keys.Confidential, home, "four"), Context: home}, Class: keys.Public},
	}
	results, err := s.r.Reencrypt(s.Context(), keys.By{}, items)
	if err != nil || len(results) != len(items) {
		s.Fatalf("reencrypt: %v, %d results", err, len(results))
	}
	if results[0].Err != nil || results[1].Err != nil || !errors.Is(results[2].Err, keys.ErrInvalid) || !errors.Is(results[3].Err, keys.ErrNotEncrypted) {
		s.Fatalf("reencrypt: %+v", results)
	}
	s.opens(results[0].Text, home, "one")
	s.opens(results[1].Text, moved, "two")
	if h, _ := keys.Inspect(results[1].Text); h.Class != keys.TopSecret {
		s.Errorf("class %v", h.Class)
	}
}

func testRingPartial(s *ringSuite) {
	var items []keys.Ciphertext
	for i := range 60 {
		where := home
		where.ID = fmt.Sprint(i)
		text := s.encrypt(encrypted()[i%4], where, fmt.Sprint("value ", i))
		if i%3 == 1 {
			where.Pointer = "/other"
		}
		if i%3 == 2 && i%2 == 0 {
			text = text[:len(text)-5]
		}
		items = append(items, keys.Ciphertext{Text: text, Context: where})
	}
	results, err := s.r.Decrypt(s.Context(), keys.By{Caller: "tester"}, items)
	if err != nil {
		s.Fatal(err)
	}
	failed := 0
	for i, o := range results {
		good := i%3 == 0 || i%3 == 2 && i%2 == 1
		if !good {
			failed++
		}
		if (o.Err == nil) != good || good && string(o.Data) != fmt.Sprint("value ", i) || !good && !isRefusal(o.Err) {
			s.Errorf("item %d: %q, %v", i, o.Data, o.Err)
		}
	}
	events := s.rec.Events(keys.EventOpeningFailed)
	counted := 0
	for _, e := range events {
		for _, n := range e.Failures {
			counted += n
		}
	}
	if len(events) != 1 || counted != failed || events[0].By.Caller != "tester" || len(events[0].Contexts) == 0 {
		s.Errorf("records of %d failures: %+v", failed, events)
	}
}

func testRingConcurrency(s *ringSuite) {
	const workers, rounds = 4, 8
	classes := []keys.Class{keys.Internal, keys.Confidential, keys.Restricted}
	for _, c := range classes {
		s.encrypt(c, home, "creates the key")
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			where := home
			where.Tenant = fmt.Sprint("tenant ", w%2)
			for n := range rounds {
				data := []byte(fmt.Sprint(w, " ", n))
				text, err := s.r.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: classes[n%3], Context: where, Data: data})
				if err != nil {
					s.Errorf("encrypt: %v", err)
					return
				}
				got, err := s.r.DecryptOne(s.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: where})
				if err != nil || !bytes.Equal(got, data) {
					s.Errorf("decrypt: %v", err)
				}
			}
		})
	}
	for range 3 {
		for _, c := range classes {
			if _, err := s.r.Rotate(s.Context(), keys.By{}, s.r.ClassID(c)); err != nil {
				s.Errorf("rotate: %v", err)
			}
		}
	}
	wg.Wait()
}

func testRingSigns(s *ringSuite) {
	ctx, id, mac := s.Context(), s.r.ID("jwt"), s.r.ID("hmac")
	message := []byte("header.payload")
	if _, err := s.r.EnsureKey(ctx, keys.By{}, id, keys.Ed25519); err != nil {
		s.Fatal(err)
	}
	if _, err := s.r.EnsureKey(ctx, keys.By{}, id, keys.HMAC); !errors.Is(err, keys.ErrKeyMismatch) {
		s.Errorf("another type: %v", err)
	}
	first, err := s.r.Sign(ctx, id, 0, keys.EdDSA, [][]byte{message})
	if err != nil {
		s.Fatal(err)
	}
	macs, err := s.r.HMAC(ctx, keys.By{}, mac, [][]byte{message})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.r.Compromise(ctx, keys.By{}, id, 0); err != nil {
		s.Fatal(err)
	}
	if err := s.r.Verify(ctx, id, keys.EdDSA, message, first[0]); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("signature of a compromised version: %v", err)
	}
	if _, err := s.r.Sign(ctx, id, 1, keys.EdDSA, [][]byte{message}); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("signed with a compromised version: %v", err)
	}
	second, err := s.r.Sign(ctx, id, 0, keys.EdDSA, [][]byte{message})
	if err != nil || second[0].Version != 2 {
		s.Fatalf("sign: %v, %+v", err, second)
	}
	if err := s.r.Verify(ctx, id, keys.EdDSA, message, second[0]); err != nil {
		s.Error(err)
	}
	if err := s.r.Verify(ctx, id, keys.EdDSA, []byte("other"), second[0]); !errors.Is(err, keys.ErrInvalid) {
		s.Errorf("other message: %v", err)
	}
	checked, err := s.r.VerifyHMAC(ctx, mac, []keys.MACCheck{{Message: message, Tag: macs[0]}, {Message: []byte("other"), Tag: macs[0]}})
	if err != nil || checked[0] != nil || !errors.Is(checked[1], keys.ErrInvalid) {
		s.Errorf("check MACs: %v, %v", err, checked)
	}
}
