// Package encryptiontest makes the encryption service over real parts, for
// tests: keys in a temporary folder, the standard policies, a log.
package encryptiontest

import (
	"path/filepath"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/policies"
)

// Rig is a service with what it stands on.
type Rig struct {
	*service.Service
	Ring     *keys.Ring
	Backend  *keystest.Spy
	Recorder *keystest.Recorder
	Point    *pointtest.Point
	Store    keys.Store
}

// New makes a rig. Its keys are prepared, so that none takes long to make.
func New(t testing.TB, o service.Options) *Rig {
	t.Helper()
	dir := t.TempDir()
	b, err := local.Open(filepath.Join(dir, "keys"), local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &Rig{Backend: &keystest.Spy{Backend: keystest.Prepare(t, b)}, Recorder: &keystest.Recorder{}, Point: pointtest.New(t), Store: keystest.Store(t)}
	standard(t, r.Point)
	if r.Ring, err = keys.New(r.Backend, r.Store, r.Recorder, keys.Options{Now: o.Now}); err != nil {
		t.Fatal(err)
	}
	r.Service = service.New(r.Ring, r.Point, o)
	return r
}

// standard loads the standard policies.
func standard(t testing.TB, p *pointtest.Point) {
	t.Helper()
	set, err := policies.Standard()
	if err != nil {
		t.Fatal(err)
	}
	data, err := ast.InterfaceToValue(set.Data)
	if err != nil {
		t.Fatal(err)
	}
	b := &eval.Bundle{Name: "standard", Revision: set.Revision, Base: true, Data: data.(ast.Object)}
	for name, text := range set.Modules {
		m, err := eval.ParseModule(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b.Modules = append(b.Modules, m)
	}
	if _, err := p.Engine().Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b}) }); err != nil {
		t.Fatal(err)
	}
}

// Asker is a caller that may encrypt and decrypt.
func Asker() *service.Asker {
	return &service.Asker{Caller: "shop", Kind: "token", Scopes: []string{"keys:encrypt", "keys:decrypt"}}
}
