package segment_test

import (
	"path/filepath"
	"testing"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/storetest"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// small are options with files of 512 records that grow in small steps.
func small() segment.Options {
	return segment.Options{Origin: storetest.Origin, RecordsPerFile: 512, GrowBytes: 1 << 16}
}

func open(t testing.TB, dir string, o segment.Options) *segment.Store {
	t.Helper()
	s, err := segment.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	for name, o := range map[string]segment.Options{
		"OneFile":   {Origin: storetest.Origin},
		"ManyFiles": small(),
	} {
		t.Run(name, func(t *testing.T) {
			dirs := map[string]string{}
			storetest.Run(t, func(t testing.TB, log string) audit.Store {
				name := t.Name() + log
				if dirs[name] == "" {
					dirs[name] = filepath.Join(t.TempDir(), "audit")
				}
				return open(t, dirs[name], o)
			})
		})
	}
}
