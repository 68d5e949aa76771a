package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/storage"
)

func testList(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	if entries, revision := mustAll(t, b, "", 0); len(entries) != 0 || revision != 0 {
		t.Errorf("an empty bucket lists %s at %d", text(entries), revision)
	}
	keys := []string{"a", "a-", "a.1", "a.2", "a.2.x", "a.=", "a0", "b.1", "b1"}
	slices.Sort(keys)
	for _, k := range keys {
		apply(t, b, storage.Put(k, []byte(k)))
	}
	apply(t, b, storage.Put("a.deleted", nil))
	apply(t, b, storage.Delete("a.deleted"))
	for _, prefix := range []string{"", "a.", "a.2.", "b.", "c."} {
		var expected []string
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				expected = append(expected, k)
			}
		}
		for _, limit := range []int{0, 1, 2, 3, 100, storage.MaxPage + 1} {
			entries, _ := mustAll(t, b, prefix, limit)
			var got []string
			for _, e := range entries {
				if string(e.Value) != e.Key || e.Revision == 0 {
					t.Errorf("entry %+v", e)
				}
				got = append(got, e.Key)
			}
			if !slices.Equal(got, expected) {
				t.Errorf("List(%q) in pages of %d: %q, want %q", prefix, limit, got, expected)
			}
		}
	}
}

// What is there all the time is listed once, whatever is written meanwhile.
func testListWhileWriting(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	var ops []storage.Op
	for i := range 100 {
		ops = append(ops, storage.Put(fmt.Sprintf("stays.%03d", i), nil))
	}
	apply(t, b, ops...)
	seen := map[string]int{}
	cursor := ""
	for n := 0; n == 0 || cursor != ""; n++ {
		page, err := b.List(t.Context(), "stays.", cursor, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			seen[e.Key]++
		}
		cursor = page.Cursor
		apply(t, b, storage.Put(fmt.Sprintf("stays.%03d", n*5), []byte("new")),
			storage.Put(fmt.Sprintf("stays.%03dx", 99-n), nil), storage.Delete(fmt.Sprintf("stays.%03dx", 98-n)))
	}
	for _, o := range ops {
		if seen[o.Key] != 1 {
			t.Errorf("%s was listed %d times", o.Key, seen[o.Key])
		}
	}
}

func testListBytes(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	value := make([]byte, storage.MaxValue)
	const count = 7
	for i := range count {
		apply(t, b, storage.Put(fmt.Sprintf("k%d", i), value))
	}
	page, err := b.List(t.Context(), "", "", 0)
	if err != nil || len(page.Entries) == 0 || len(page.Entries) == count || page.Cursor == "" {
		t.Fatalf("first page: %d entries, %v", len(page.Entries), err)
	}
	if entries, _ := mustAll(t, b, "", 0); len(entries) != count {
		t.Errorf("listed %d of %d", len(entries), count)
	}
}
