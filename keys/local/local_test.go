package local_test

import (
	"path/filepath"
	"testing"

	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
)

// open opens the keys of a folder, which are closed in the end.
func open(t testing.TB, dir string) *local.Backend {
	t.Helper()
	b, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestConformance(t *testing.T) {
	keystest.Run(t, keystest.Prepare(t, open(t, filepath.Join(t.TempDir(), "keys"))))
}
