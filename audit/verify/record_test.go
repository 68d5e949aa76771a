package verify_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

const timeLayout = "2006-01-02T15:04:05.000000Z"

// prefixByDefinition is what ParsePrefix must do, said with the standard library.
func prefixByDefinition(rec []byte) (seq uint64, micros int64, ok bool) {
	var at string
	n, _ := fmt.Sscanf(string(rec), `{"seq":%d,"time":"%27s",`, &seq, &at)
	if n != 2 {
		return 0, 0, false
	}
	t, err := time.Parse(timeLayout, at)
	if err != nil || !strings.HasPrefix(string(rec), fmt.Sprintf(`{"seq":%d,"time":"%s",`, seq, t.Format(timeLayout))) {
		return 0, 0, false
	}
	return seq, t.UnixMicro(), true
}

func TestParsePrefix(t *testing.T) {
	good := []string{
		`{"seq":0,"time":"2026-11-23T09:00:00.123456Z","type":1}`,
		`{"seq":18446744073709551615,"time":"2026-11-23T09:00:00.000000Z",`,
		`{"seq":7,"time":"2024-02-29T23:59:59.999999Z",`,
		`{"seq":7,"time":"2000-02-29T00:00:00.000000Z",`,
		`{"seq":7,"time":"1969-12-31T23:59:59.999999Z",`,
		`{"seq":7,"time":"0000-01-01T00:00:00.000000Z",`,
		`{"seq":7,"time":"9999-12-31T23:59:59.999999Z",`,
	}
	bad := []string{
		``, `{`, `{"seq":`, `{"seq":1`, `{"seq":,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":01,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":-1,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":+1,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":18446744073709551616,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":184467440737095516150,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq": 1,"time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":1, "time":"2026-11-23T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-11-23T09:00:00.12345Z",`,
		`{"seq":1,"time":"2026-11-23T09:00:00.123456+00:00",`,
		`{"seq":1,"time":"2026-11-23 09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-02-29T09:00:00.123456Z",`,
		`{"seq":1,"time":"1900-02-29T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-04-31T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-13-01T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-00-01T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-01-00T09:00:00.123456Z",`,
		`{"seq":1,"time":"2026-01-01T24:00:00.123456Z",`,
		`{"seq":1,"time":"2026-01-01T00:60:00.123456Z",`,
		`{"seq":1,"time":"2026-01-01T00:00:60.123456Z",`,
		`{"seq":1,"time":"2026-11-23T09:00:00.123456Z"}`,
		`{"time":"2026-11-23T09:00:00.123456Z","seq":1,`,
	}
	for _, s := range good {
		seq, micros, ok := verify.ParsePrefix([]byte(s))
		wantSeq, wantMicros, wantOK := prefixByDefinition([]byte(s))
		if !ok || !wantOK || seq != wantSeq || micros != wantMicros {
			t.Errorf("%s: %d, %d, %v; want %d, %d", s, seq, micros, ok, wantSeq, wantMicros)
		}
	}
	for _, s := range bad {
		if seq, micros, ok := verify.ParsePrefix([]byte(s)); ok || seq != 0 || micros != 0 {
			t.Errorf("%s: %d, %d, %v", s, seq, micros, ok)
		}
	}
}

func FuzzPrefix(f *testing.F) {
	f.Add([]byte(`{"seq":7,"time":"2024-02-29T23:59:59.999999Z",`))
	f.Add([]byte(`{"seq":18446744073709551616,"time":"2026-11-23T09:00:00.123456Z",`))
	f.Add([]byte(`{"seq":1,"time":"1900-02-29T09:00:00.123456Z","x":1}`))
	f.Fuzz(func(t *testing.T, rec []byte) {
		seq, micros, ok := verify.ParsePrefix(rec)
		if !ok {
			if seq != 0 || micros != 0 {
				t.Errorf("%q: not a prefix, yet %d, %d", rec, seq, micros)
			}
			return
		}
		back := surgeon.Prefix(seq, time.UnixMicro(micros))
		if !strings.HasPrefix(string(rec), string(back)) {
			t.Errorf("%q: round trip gives %q", rec, back)
		}
	})
}

func TestValidJSON(t *testing.T) {
	tests := []string{
		`{}`, `[]`, `{"a":[]}`, `[{}]`, `[[[]]]`, `{"a":{"b":[1,2,{"c":null}]}}`, ` { "a" : [ 1 , 2 ] } `, `"x"`, `1`, `true`,
		`-0`, `0.5`, `-1.5e+10`, `1E5`, `[true,false,null]`, `"\u00e9\"\\\/\b\f\n\r\t"`, `"\ud800"`, `"é 😀"`, "\"\u2028\"",
		``, ` `, `{`, `}`, `[`, `]`, `{]`, `[}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1 "b":2}`,
		`{a:1}`, `{1:1}`, `01`, `-`, `1.`, `.5`, `1e`, `1e+`, `+1`, `tru`, `nul`, `truex`, `"`, `"\x"`, `"\u12g4"`, `"\u123"`, `"\"`,
		"\"a\nb\"", "\"\x00\"", "\"\x1f\"", `{} {}`, `{}x`, `1 1`, `""""`, `"12345678"`, `"1234567\""`, `"123456789\n"`,
		"{\"a\":\"0123456789abcdef\x7f\"}", `[` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + `]`, strings.Repeat(`[`, 100),
	}
	for _, s := range tests {
		if got, want := verify.ValidJSON([]byte(s)), json.Valid([]byte(s)); got != want {
			t.Errorf("%.60q: %v, want %v", s, got, want)
		}
	}
	for _, s := range []string{"\"\xff\"", "\"\xed\xa0\x80\"", "{\"\xc3\":1}"} {
		if verify.ValidJSON([]byte(s)) {
			t.Errorf("%q is not UTF-8", s)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,{"b":null}],"c":"\u00e9 é"}`, `[[],{}," "]`, `{"a":1,}`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Add(surgeon.Sample(5))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := verify.ValidJSON(b), json.Valid(b) && utf8.Valid(b); got != want {
			t.Errorf("%q: %v, want %v", b, got, want)
		}
	})
}
