package storage_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

func TestKey(t *testing.T) {
	for _, tt := range []struct {
		parts []string
		want  string
	}{
		{[]string{"sessions", "0193587b-3b40"}, "sessions.0193587b-3b40"},
		{[]string{"user:alice@example.com"}, "user=3Aalice=40example=2Ecom"},
		{[]string{"a", "", "b"}, "a.=.b"},
		{[]string{"\x00=é"}, "=00=3D=C3=A9"},
		{[]string{"_kv"}, "_kv"},
	} {
		got := storage.Key(tt.parts...)
		if got != tt.want {
			t.Errorf("Key(%q) = %q, want %q", tt.parts, got, tt.want)
		}
		parts, err := storage.Parts(got)
		if err != nil || !slices.Equal(parts, tt.parts) {
			t.Errorf("Parts(%q) = %q, %v, want %q", got, parts, err, tt.parts)
		}
		if got := storage.Prefix(tt.parts...); got != tt.want+"." {
			t.Errorf("Prefix(%q) = %q", tt.parts, got)
		}
	}
	if got := storage.Prefix(); got != "" {
		t.Errorf("Prefix() = %q", got)
	}
}

func TestChecks(t *testing.T) {
	long := strings.Repeat("k", storage.MaxKey)
	for _, tt := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{
			"key", storage.CheckKey,
			[]string{"a", "a.b", "A/b=c_d-e.9", "=", long},
			[]string{"", ".", ".a", "a.", "a..b", "a b", "a*", "a>", "é", "a\x00", "_kv", "_kv.a", long + "k"},
		},
		{
			"prefix", storage.CheckPrefix,
			[]string{"", "a.", "a.b."},
			[]string{"a", ".", "..", "a..", "_kv."},
		},
		{
			"bucket", storage.CheckBucket,
			[]string{"a", "bundles", "role-assignments_2", strings.Repeat("b", storage.MaxBucket)},
			[]string{"", "A", "1a", "-a", "aB", "a.b", "a/b", strings.Repeat("b", storage.MaxBucket+1)},
		},
		{
			"parts", func(key string) error { _, err := storage.Parts(key); return err },
			[]string{"a", "=3A", "="},
			[]string{"", "a..b", "=3a", "=41", "=4", "=G0", "a=", "a/b"},
		},
	} {
		for _, s := range tt.good {
			if err := tt.check(s); err != nil {
				t.Errorf("%s %q: %v", tt.name, s, err)
			}
		}
		for _, s := range tt.bad {
			if err := tt.check(s); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("%s %q: %v, want ErrInvalid", tt.name, s, err)
			}
		}
	}
}

func TestCheckOps(t *testing.T) {
	value := make([]byte, storage.MaxValue)
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	many := func(n int) []storage.Op {
		var ops []storage.Op
		for i := range n {
			ops = append(ops, storage.Put(storage.Key("k", strings.Repeat("x", i)), nil))
		}
		return ops
	}
	for _, tt := range []struct {
		name string
		ops  []storage.Op
		ok   bool
	}{
		{"put", []storage.Op{storage.Put("a", nil).Until(at)}, true},
		{"all kinds", []storage.Op{storage.Create("a", value), storage.Replace("b", nil, 3), storage.Delete("c"), storage.DeleteAt("d", 1), storage.Check("e", 0)}, true},
		{"as many as may be", many(storage.MaxOps), true},
		{"none", nil, false},
		{"too many", many(storage.MaxOps + 1), false},
		{"one key twice", []storage.Op{storage.Put("a", nil), storage.Check("a", 1)}, false},
		{"checks alone", []storage.Op{storage.Check("a", 1)}, false},
		{"no kind", []storage.Op{{Key: "a"}}, false},
		{"wrong key", []storage.Op{storage.Put("", nil)}, false},
		{"value too long", []storage.Op{storage.Put("a", make([]byte, storage.MaxValue+1))}, false},
		{"batch too long", []storage.Op{storage.Put("a", value), storage.Put("b", value), storage.Put("c", value), storage.Put("d", value), storage.Put("e", value)}, false},
		{"delete at 0", []storage.Op{storage.DeleteAt("a", 0)}, false},
		{"delete with expiry", []storage.Op{storage.Delete("a").Until(at)}, false},
		{"expiry before 1970", []storage.Op{storage.Put("a", nil).Until(time.Unix(-1, 0))}, false},
		{"expiry after 9999", []storage.Op{storage.Put("a", nil).Until(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}, false},
	} {
		err := storage.CheckOps(tt.ops)
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
