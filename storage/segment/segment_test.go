package segment_test

import (
	"path/filepath"
	"testing"
	"time"

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

// fill appends records of a few seconds apart that all end with the same padding.
func fill(t testing.TB, s *segment.Store, n int, padding string) {
	t.Helper()
	b := storetest.NewBatcher(s.Position())
	b.Padding = padding
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	if p := s.Position(); p.Next > 0 {
		at = p.Time
	}
	for n > 0 {
		part := int(min(uint64(n), s.Room(), 4096))
		at = at.Add(time.Second)
		if err := s.Append(b.Next(part, at)); err != nil {
			t.Fatal(err)
		}
		n -= part
	}
}
