package tokens_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/tokens"
)

const goodToken = `{"id":"00112233aabb","name":"a","scopes":["decide"],"sha256":"` +
	`0000000000000000000000000000000000000000000000000000000000000000","created":"2026-11-23T09:00:00Z"}`

func document(list ...string) string {
	return `{"format":1,"tokens":[` + strings.Join(list, ",") + `]}`
}

func TestDecodeFile(t *testing.T) {
	change := func(from, to string) string { return document(strings.Replace(goodToken, from, to, 1)) }
	for name, tc := range map[string]struct {
		doc string
		ok  bool
	}{
		"none":             {document(), true},
		"one":              {document(goodToken), true},
		"expires":          {change(`"created"`, `"expires":"2026-11-24T09:00:00+01:00","created"`), true},
		"no format":        {`{"tokens":[]}`, false},
		"unknown member":   {change(`"name"`, `"color":1,"name"`), false},
		"same name":        {document(goodToken, strings.Replace(goodToken, "0011", "0012", 1)), false},
		"same id":          {document(goodToken, strings.Replace(goodToken, `"a"`, `"b"`, 1)), false},
		"short id":         {change("00112233aabb", "0011"), false},
		"id no hex":        {change("00112233aabb", "zz112233aabb"), false},
		"no name":          {change(`"a"`, `""`), false},
		"unknown scope":    {change("decide", "root"), false},
		"short hash":       {change(strings.Repeat("0", 64), "00"), false},
		"bad time":         {change("2026-11-23T09:00:00Z", "yesterday"), false},
		"expires at zero":  {change(`"created"`, `"expires":"0001-01-01T00:00:00Z","created"`), false},
		"null":             {"null", false},
		"too many":         {document(strings.Repeat("{},", 10_001) + "{}"), false},
		"too large":        {document() + strings.Repeat(" ", 8<<20), false},
		"trailing garbage": {document() + "x", false},
	} {
		if _, n, err := tokens.DecodeEncode([]byte(tc.doc)); (err == nil) != tc.ok || (err != nil && n != 0) {
			t.Errorf("%s: %d tokens, %v", name, n, err)
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "tokenfile", "*.json"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range seeds {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, n, err := tokens.DecodeEncode(b)
		if err != nil {
			if n != 0 {
				t.Errorf("%d tokens beside the error %v", n, err)
			}
			return
		}
		second, m, err := tokens.DecodeEncode(first)
		if err != nil || m != n || !bytes.Equal(first, second) {
			t.Errorf("%v: %d and %d tokens\n%s\n%s", err, n, m, first, second)
		}
	})
}
