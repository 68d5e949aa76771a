package escrow_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/storage/state"
)

// rig is a ring over local keys with an escrow, which can lose its keys.
type rig struct {
	*testing.T
	dir        string
	public     *escrow.PublicKey
	shares     []string
	store      *state.Bucket
	rec        *keystest.Recorder
	now        time.Time
	backend    *local.Backend
	ring       *keys.Ring
	escrow     *escrow.Escrow
	recoveries *escrow.Recoveries
}

func split(t testing.TB, total, threshold int) (*escrow.PublicKey, []string) {
	t.Helper()
	public, shares, err := escrow.Split(rand.Reader, total, threshold)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, s := range shares {
		text, err := s.Text()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return public, texts
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g := &rig{T: t, dir: t.TempDir(), rec: &keystest.Recorder{}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	g.public, g.shares = split(t, 5, 3)
	store, err := state.Open(filepath.Join(g.dir, "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if g.store, err = store.Bucket("keys"); err != nil {
		t.Fatal(err)
	}
	g.open()
	t.Cleanup(func() { _ = g.backend.Close() })
	return g
}

// open starts the ring, as after a restart.
func (g *rig) open() {
	g.Helper()
	clock := func() time.Time { return g.now }
	var err error
	if g.backend, err = local.Open(filepath.Join(g.dir, "keys"), local.Master{File: filepath.Join(g.dir, "master"), Generate: true}, local.Options{Now: clock}); err != nil {
		g.Fatal(err)
	}
	if g.escrow, err = escrow.New(g.public, g.store, g.rec, escrow.Options{Now: clock}); err != nil {
		g.Fatal(err)
	}
	if g.ring, err = keys.New(g.backend, g.store, g.rec, keys.Options{Escrow: g.escrow, EnforceEscrow: true, Now: clock}); err != nil {
		g.Fatal(err)
	}
	g.recoveries = escrow.NewRecoveries(g.escrow, g.ring, escrow.RecoveryOptions{Now: clock})
}

// lose removes the keysets and starts again.
func (g *rig) lose(ids ...string) {
	g.Helper()
	if err := g.backend.Close(); err != nil {
		g.Fatal(err)
	}
	for _, id := range ids {
		if err := os.Remove(filepath.Join(g.dir, "keys", id+".keyset")); err != nil {
			g.Fatal(err)
		}
	}
	g.open()
}

func (g *rig) encrypt(c keys.Class) (string, error) {
	results, err := g.ring.Encrypt(g.Context(), keys.By{}, []keys.Value{{Class: c, Context: keys.Context{Tenant: "t"}, Data: []byte("plain " + c.String())}})
	if err != nil {
		return "", err
	}
	return results[0].Text, results[0].Err
}

func (g *rig) must(c keys.Class) string {
	g.Helper()
	text, err := g.encrypt(c)
	if err != nil {
		g.Fatal(err)
	}
	return text
}

func (g *rig) opens(text string, c keys.Class) error {
	d, err := g.ring.DecryptOne(g.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: keys.Context{Tenant: "t"}})
	if err == nil && string(d) != "plain "+c.String() {
		g.Errorf("opened %q", d)
	}
	return err
}

func who(name string, createdBy ...string) escrow.Principal {
	return escrow.Principal{ID: name, Name: name, CreatedBy: createdBy}
}

func (g *rig) give(p escrow.Principal, id string, shares ...int) (escrow.Progress, error) {
	g.Helper()
	var texts []string
	for _, n := range shares {
		texts = append(texts, g.shares[n])
	}
	return g.recoveries.Give(g.Context(), keys.By{Caller: p.Name}, p, id, texts)
}

// TestRecovery loses keys and brings them back: what was encrypted opens, at
// every version, and retired versions stay retired.
func TestRecovery(t *testing.T) {
	g := newRig(t)
	id, top := g.ring.ClassID(keys.Confidential), g.ring.ClassID(keys.TopSecret)
	retired := g.must(keys.Confidential)
	secret := g.must(keys.TopSecret)
	rotate := func() {
		t.Helper()
		if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
			t.Fatal(err)
		}
	}
	rotate()
	second := g.must(keys.Confidential)
	if _, err := g.ring.Retire(t.Context(), keys.By{}, id, 2); err != nil {
		t.Fatal(err)
	}
	rotate()
	third := g.must(keys.Confidential)
	if v, err := g.escrow.Versions(t.Context(), id); err != nil || !slices.Equal(v, []uint32{2, 3}) {
		t.Errorf("in escrow: %v, %v", v, err)
	}
	if _, err := g.give(who("ana"), id, 0); !errors.Is(err, keys.ErrKeyPresent) {
		t.Errorf("a key that is not lost: %v", err)
	}

	g.lose(id, top, top+"-mac")
	if err := g.opens(third, keys.Confidential); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Errorf("a lost key opens: %v", err)
	}
	if _, err := g.encrypt(keys.Confidential); !errors.Is(err, keys.ErrKeyLost) || !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("a lost key was made anew: %v", err)
	}
	if p, err := g.give(who("ana"), id, 0, 1); err != nil || len(p.Recovered) != 0 || p.Shares != 2 || p.Threshold != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	p, err := g.give(who("bo"), id, 4)
	if err != nil || !slices.Equal(p.Recovered, []string{id}) {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, text := range []string{second, third} {
		if err := g.opens(text, keys.Confidential); err != nil {
			t.Errorf("after the recovery: %v", err)
		}
	}
	if err := g.opens(retired, keys.Confidential); !errors.Is(err, keys.ErrVersionDisallowed) {
		t.Errorf("a retired version came back: %v", err)
	}
	if k, err := g.ring.Key(t.Context(), id); err != nil || k.Latest != 3 || k.MinDecrypt != 2 {
		t.Errorf("%+v, %v", k, err)
	}
	rotate()
	g.must(keys.Confidential)

	if _, err := g.give(who("ana"), top, 0, 1, 2); err != nil {
		t.Fatal(err)
	}
	if p, err := g.give(who("bo"), top, 3); err != nil || !slices.Equal(p.Recovered, []string{top, top + "-mac"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := g.opens(secret, keys.TopSecret); err != nil {
		t.Error(err)
	}
	recovered := g.rec.Events(keys.EventRecovered)
	if len(recovered) != 3 || recovered[0].Shares != 3 || !slices.Equal(recovered[0].Principals, []string{"ana", "bo"}) || recovered[0].By.Caller != "bo" {
		t.Errorf("records: %+v", recovered)
	}
	if n := len(g.rec.Events(keys.EventEscrowed)); n != 6 {
		t.Errorf("%d packages recorded", n)
	}
}

// TestTwoPrincipals shows who may not complete a recovery.
func TestTwoPrincipals(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.Restricted)
	g.must(keys.Restricted)
	g.lose(id)
	if p, err := g.give(who("ana"), id, 0, 1, 2); err != nil || len(p.Recovered) != 0 {
		t.Fatalf("one principal with enough shares: %+v, %v", p, err)
	}
	for _, test := range []struct {
		name string
		by   escrow.Principal
		want error
	}{
		{"the same", who("ana"), escrow.ErrSamePrincipal},
		{"created by the first", who("bo", "ana"), escrow.ErrRelated},
		{"created by one whom the first created", who("cy", "bo", "ana"), escrow.ErrRelated},
	} {
		if _, err := g.give(test.by, id, 3); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := g.give(escrow.Principal{ID: "certificate:fay", Name: "fay", Issued: true}, id, 3); !errors.Is(err, escrow.ErrRelated) {
		t.Errorf("by a certificate that was issued here: %v", err)
	}
	refused := g.rec.Events(keys.EventRecoveryRefused)
	if len(refused) != 4 || refused[1].Principals[0] != "bo" || refused[1].Failed == "" {
		t.Errorf("records: %+v", refused)
	}
	if _, err := g.give(who("dee"), id, 0); !errors.Is(err, escrow.ErrShare) {
		t.Errorf("a share that was given: %v", err)
	}
	if err := g.recoveries.Cancel(t.Context(), keys.By{}, id); err != nil {
		t.Fatal(err)
	}
	if _, err := g.give(who("bo", "ana"), id, 0); err != nil {
		t.Fatal(err)
	}
	for _, related := range []escrow.Principal{who("ana"), who("eve", "ana")} {
		if _, err := g.give(related, id, 1, 2); !errors.Is(err, escrow.ErrRelated) {
			t.Errorf("%s: %v", related.Name, err)
		}
	}
	g.now = g.now.Add(escrow.DefaultRecoveryTime)
	if err := g.recoveries.Cancel(t.Context(), keys.By{}, id); !errors.Is(err, escrow.ErrNoRecovery) {
		t.Errorf("after its time: %v", err)
	}
	if p, err := g.give(who("dee"), id, 1, 2); err != nil || p.Shares != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestRefusedShares(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.Restricted)
	g.must(keys.Restricted)
	g.lose(id)
	_, foreign := split(t, 5, 3)
	for name, texts := range map[string][]string{
		"none": {}, "another key's": {foreign[0]}, "cut": {g.shares[0][:40]}, "twice": {g.shares[0], g.shares[0]},
		"not a share": {"hello"}, "empty": {""}, "changed": {changed(g.shares[0])}, "many": slices.Repeat(g.shares[:1], 40),
	} {
		_, err := g.recoveries.Give(t.Context(), keys.By{}, who("ana"), id, texts)
		if !errors.Is(err, escrow.ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), g.shares[0][10:30]) {
			t.Errorf("%s: the error holds a share", name)
		}
	}
	if _, err := g.give(who("ana"), "verdict-nothing", 0); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Errorf("an unknown key: %v", err)
	}
}

// changed gives a share with another value.
func changed(text string) string {
	c := byte('A')
	if text[15] == c {
		c = 'B'
	}
	return text[:15] + string(c) + text[16:]
}

// TestPackages opens packages outside of verdict, as a holder of shares does.
func TestPackages(t *testing.T) {
	g := newRig(t)
	for _, typ := range []keys.Type{keys.AES256, keys.HMAC, keys.Ed25519, keys.ECDSAP256, keys.RSA2048} {
		material, err := g.escrow.Generate(t.Context(), "k", typ, 1)
		if err != nil {
			t.Fatal(err)
		}
		list, err := g.escrow.Export(t.Context(), keys.By{Caller: "ana"}, "k")
		if err != nil || len(list) != 1 || strings.Count(list[0].JWE, ".") != 4 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, used := range [][]int{{0, 1, 2}, {4, 2, 0}, {0, 1, 2, 3, 4}} {
			var shares []escrow.Share
			for _, n := range used {
				s, err := escrow.ParseShare(g.shares[n])
				if err != nil {
					t.Fatal(err)
				}
				shares = append(shares, s)
			}
			private, err := escrow.Combine(shares)
			if err != nil {
				t.Fatal(err)
			}
			c, err := private.Open(list[0])
			if err != nil || !slices.Equal(c.Material, material) || c.Type != typ {
				t.Errorf("%s with %v: %v", typ, used, err)
			}
			moved := list[0]
			moved.Version = 2
			if _, err := private.Open(moved); !errors.Is(err, escrow.ErrPackage) {
				t.Errorf("a package of another version: %v", err)
			}
			if _, err := escrow.Combine(shares[:2]); !errors.Is(err, escrow.ErrShare) {
				t.Errorf("two shares: %v", err)
			}
		}
	}
	if _, err := g.escrow.Export(t.Context(), keys.By{}, "other"); !errors.Is(err, escrow.ErrNone) {
		t.Errorf("no packages: %v", err)
	}
	if _, err := g.escrow.Generate(t.Context(), "k", "des", 1); !errors.Is(err, keys.ErrUnsupported) {
		t.Errorf("another type: %v", err)
	}
	g.rec.Before = func(keys.Event) error { return context.Canceled }
	if material, err := g.escrow.Generate(t.Context(), "k2", keys.AES256, 1); err == nil || material != nil {
		t.Errorf("not recorded: %v", err)
	}
	if _, err := g.escrow.Export(t.Context(), keys.By{}, "k"); err == nil {
		t.Error("an export that was not recorded")
	}
}

func TestParsePublicKey(t *testing.T) {
	public, _ := split(t, 2, 2)
	own, err := public.PEM()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"made here": string(own), "X25519": encode(x.PublicKey()), "RSA": encode(&r.PublicKey)} {
		key, err := escrow.ParsePublicKey([]byte(text))
		if err != nil || len(key.Thumbprint()) != 43 {
			t.Fatalf("%s: %v", name, err)
		}
		e, err := escrow.New(key, newRig(t).store, &keystest.Recorder{}, escrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Generate(t.Context(), "k", keys.RSA2048, 1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"a private key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"Ed25519":       encode(ed25519Public(t)),
	} {
		if _, err := escrow.ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestSplitBounds(t *testing.T) {
	for _, n := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {33, 2}, {0, 0}} {
		if _, _, err := escrow.Split(rand.Reader, n[0], n[1]); err == nil {
			t.Errorf("%v is taken", n)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	_, shares := split(f, 3, 2)
	f.Add(shares[0])
	f.Add("vds1.")
	f.Add("vds1.AgMB")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := escrow.ParseShare(text)
		if err != nil {
			if !errors.Is(err, escrow.ErrShare) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := s.Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := escrow.ParseShare(again); err != nil {
			t.Errorf("%q is read, %q is not: %v", text, again, err)
		}
	})
}

func ed25519Public(t *testing.T) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public
}
