package local_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/keys/local"
)

// TestReseal changes the passphrase of keysets that are open.
func TestReseal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, second := "the first passphrase of all", "the second passphrase of all"
	reopen := func(text string) (*local.Backend, error) {
		return local.Open(dir, local.Master{Passphrase: text}, local.Options{})
	}
	b, err := reopen(first)
	if err != nil {
		t.Fatal(err)
	}
	k := wrapOne(t, b)
	for name, text := range map[string]string{"without the old one": second, "short": "x\n" + first, "empty": ""} {
		if err := b.Reseal(text); !errors.Is(err, local.ErrMaster) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Reseal(second + "\n" + first); err != nil {
		t.Fatal(err)
	}
	unwrapOne(t, b, k)
	if err := b.Reseal(second); err != nil { // the old line is taken away
		t.Fatal(err)
	}
	shut(t, b)
	if _, err := reopen(first); !errors.Is(err, local.ErrMaster) {
		t.Errorf("the old passphrase opens: %v", err)
	}
	if b, err = reopen(second); err != nil {
		t.Fatal(err)
	}
	unwrapOne(t, b, k)
	shut(t, b)
	if err := b.Reseal(second); !errors.Is(err, local.ErrMaster) {
		t.Errorf("closed: %v", err)
	}
}
