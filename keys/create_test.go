package keys_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
)

// late is an escrow beside which somebody else makes the key that it makes the
// material of.
type late struct {
	*escrow
	g *rig
}

func (l *late) Generate(ctx context.Context, id string, typ keys.Type, version uint32) ([]byte, error) {
	if version == 1 {
		if _, err := l.g.spy.Backend.Import(ctx, id, typ, make([]byte, keys.DataKeySize)); err != nil {
			return nil, err
		}
	}
	return l.escrow.Generate(ctx, id, typ, version)
}

// TestImportedAsAnotherVersion: material that became another version than the one
// whose package is in escrow is not used, not by the next caller either.
func TestImportedAsAnotherVersion(t *testing.T) {
	l := &late{escrow: &escrow{t: t, kept: map[string][]uint32{}}}
	g := newRig(t, keys.Options{Escrow: l})
	l.g = g
	for _, ring := range []*keys.Ring{g.ring, g.ring, g.newRing(keys.Options{Escrow: l})} {
		g.ring = ring
		err := g.encrypt(keys.Restricted, "a").Err
		if !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "version 2, not 1") {
			t.Errorf("encrypted: %v", err)
		}
	}
	failed := g.rec.Events(keys.EventChangeFailed)
	if len(failed) != 1 || failed[0].KeyID != g.ring.ClassID(keys.Restricted) || failed[0].Failed == "" || len(g.rec.Events(keys.EventCreated)) != 0 {
		t.Errorf("records: %+v", failed)
	}
	g.must(g.encrypt(keys.Internal, "a")) // is not in escrow
}
