package storetest_test

import (
	"testing"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/storetest"
)

func TestMemory(t *testing.T) {
	for _, limit := range []uint64{0, 256} {
		stores := map[string]*storetest.Memory{}
		var test string
		storetest.Run(t, func(t testing.TB, name string) audit.Store {
			if t.Name() != test {
				clear(stores)
				test = t.Name()
			}
			s := storetest.NewMemory(storetest.Origin)
			if last := stores[name]; last != nil {
				s = last.Reopen()
			}
			s.Limit = limit
			stores[name] = s
			return s
		})
	}
}
