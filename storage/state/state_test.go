package state_test

import (
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
	"github.com/verdict-pdp/verdict/storage/storagetest"
)

func open(t testing.TB, dir string, o state.Options) *state.Store {
	t.Helper()
	s, err := state.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func bucket(t testing.TB, s *state.Store, name string) *state.Bucket {
	t.Helper()
	b, err := s.Bucket(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opener(t testing.TB, place string, now func() time.Time) storagetest.Store {
	t.Helper()
	s := open(t, place, state.Options{Now: now, SweepEvery: time.Millisecond})
	return storagetest.Store{
		Bucket: func(name string) (storage.Bucket, error) {
			b, err := s.Bucket(name)
			if err != nil {
				return nil, err
			}
			return b, nil
		},
		Archive: s,
		Run:     s.Run,
		Close:   s.Close,
	}
}

func TestContract(t *testing.T) { storagetest.Run(t, opener) }
