package transit_test

import (
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/transit"
)

// backend is a backend over a mount of its own. change may be nil.
func backend(t testing.TB, server *vaulttest.Server, change func(*vault.Options)) (b *transit.Backend, client *vault.Client, mount string) {
	t.Helper()
	o := vault.Options{Address: server.Address, Timeout: 20 * time.Second, Auth: vault.Auth{Method: vault.Token, TokenFile: vaulttest.Write(t, server.Token)}}
	if change != nil {
		change(&o)
	}
	client, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mount = server.Transit()
	if b, err = transit.New(client, transit.Options{Mount: mount}); err != nil {
		t.Fatal(err)
	}
	return b, client, mount
}

func TestConformance(t *testing.T) {
	t.Parallel()
	b, _, _ := backend(t, vaulttest.Dev(t), nil)
	keystest.Run(t, keystest.Prepare(t, b))
}
