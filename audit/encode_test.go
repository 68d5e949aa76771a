package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/verdict-pdp/verdict/audit"
)

const stamp = "2026-11-23T09:00:00.123456Z"

func encode(t testing.TB, r *audit.Record) string {
	t.Helper()
	b, _, err := audit.AppendRecord(nil, 7, stamp, r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decision() *audit.Record {
	return &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventPermissionGranted,
		Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
	}
}

func TestDecisionAlwaysHas(t *testing.T) {
	want := `{"seq":7,"time":"2026-11-23T09:00:00.123456Z","type":"decision","event":"permission_granted",` +
		`"severity":"info","outcome":"success","decision_id":"","path":"","input":null,"result":null,` +
		`"reasons":[],"bundles":{},"duration_ns":0}`
	if got := encode(t, decision()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSystemRecordHasNothingElse(t *testing.T) {
	r := &audit.Record{Type: audit.TypeSystem, Event: audit.EventStart, Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess}
	want := `{"seq":7,"time":"2026-11-23T09:00:00.123456Z","type":"system","event":"system.start","severity":"info","outcome":"success"}`
	if got := encode(t, r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryFieldInOrder(t *testing.T) {
	risk := 0.25
	r := &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventDecisionError, Severity: audit.SeverityHigh, Outcome: audit.OutcomeError,
		DecisionID: "id", BatchID: "batch", Path: "a/b", Subject: "s", Action: "act", Resource: "r", Tenant: "t",
		Organization: "o", Session: "se", Device: "d", Location: "l", ClientIP: "::1", UserAgent: "ua", RequestedBy: "pep",
		Edge: "http", CorrelationID: "c", TraceID: "tr", Input: []byte(`{"x":1}`), Result: []byte(`true`), Undefined: true,
		ErrorCode: "e", ErrorMessage: "m", Reasons: []byte(`["why"]`), Trust: []byte(`{"level":"low"}`), RiskScore: &risk,
		Bundles: []byte(`{"b":"1"}`), Strict: true, Duration: 12 * time.Microsecond, ND: []byte(`{"rand":1}`),
		Erased: []string{"/input/a"}, Masked: []string{"/input/b", "/input/c"}, OldValues: []byte(`1`), NewValues: []byte(`2`),
		AffectedFields: []string{"f"}, ApprovalID: "ap", Frameworks: []string{"gdpr"}, Message: "msg", Details: []byte(`{"d":1}`),
	}
	want := `{"seq":7,"time":"2026-11-23T09:00:00.123456Z","type":"decision","event":"decision_error","severity":"high","outcome":"error",` +
		`"decision_id":"id","batch_decision_id":"batch","path":"a/b","subject":"s","action":"act","resource":"r","tenant":"t",` +
		`"organization":"o","session":"se","device":"d","location":"l","client_ip":"::1","user_agent":"ua","requested_by":"pep",` +
		`"edge":"http","correlation_id":"c","trace_id":"tr","input":{"x":1},"result":true,"undefined":true,` +
		`"error":{"code":"e","message":"m"},"reasons":["why"],"trust":{"level":"low"},"risk_score":0.25,"bundles":{"b":"1"},` +
		`"strict":true,"duration_ns":12000,"nd":{"rand":1},"erased":["/input/a"],"masked":["/input/b","/input/c"],` +
		`"old_values":1,"new_values":2,"affected_fields":["f"],"approval_id":"ap","frameworks":["gdpr"],"message":"msg","details":{"d":1}}`
	if got := encode(t, r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStrings(t *testing.T) {
	for _, tc := range []struct{ in, want, flags string }{
		{`plain`, `"plain"`, ""},
		{`"\/` + "\n\r\t\x00\x1f\x7f", `"\"\\/\n\r\t\u0000\u001f\u007f"`, ""},
		{"gr\u00fc\u00df \u4f60 \U0001f600", "\"gr\u00fc\u00df \u4f60 \U0001f600\"", ""},
		{"a\u2028b\u2029c", `"a\u2028b\u2029c"`, ""},
		{"\u202e\u2066\u200f\ufeff\u0085", `"\u202e\u2066\u200f\ufeff\u0085"`, ""},
		{"a\xffb", "\"a\uFFFDb\"", `,"sanitized":true`},
		{"\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\"", `,"sanitized":true`}, // a lone surrogate
		{"<script>&'", `"<script>&'"`, ""},
		{strings.Repeat("x", 1<<10), `"` + strings.Repeat("x", 1<<10) + `"`, ""},
		{strings.Repeat("x", 1<<10+1), `"` + strings.Repeat("x", 1<<10) + `"`, `,"truncated":true`},
		{strings.Repeat("\x01", 1000), `"` + strings.Repeat(`\u0001`, 170) + `"`, `,"truncated":true`},
		{strings.Repeat("x", 1<<10-1) + "\u4f60", `"` + strings.Repeat("x", 1<<10-1) + `"`, `,"truncated":true`},
	} {
		r := decision()
		r.Tenant = tc.in
		got := encode(t, r)
		if !strings.Contains(got, `,"tenant":`+tc.want+`,"input"`) || !strings.HasSuffix(got, `"duration_ns":0`+tc.flags+`}`) {
			t.Errorf("%q: got %s\nwant %s and %q", tc.in, got, tc.want, tc.flags)
		}
	}
}

func TestInvalidUTF8InMembers(t *testing.T) {
	r := decision()
	r.Input = []byte("{\"a\":\"\xff\"}")
	if got := encode(t, r); !strings.Contains(got, "\"input\":{\"a\":\"\uFFFD\"}") || !strings.Contains(got, `"sanitized":true`) {
		t.Errorf("got %s", got)
	}
}

func TestRefusedRecords(t *testing.T) {
	for name, spoil := range map[string]func(*audit.Record){
		"type":     func(r *audit.Record) { r.Type = "x" },
		"event":    func(r *audit.Record) { r.Event = "x" },
		"severity": func(r *audit.Record) { r.Severity = "" },
		"outcome":  func(r *audit.Record) { r.Outcome = "ok" },
		"details":  func(r *audit.Record) { r.Type, r.Details = audit.TypeSystem, []byte(`{`) },
	} {
		r := decision()
		spoil(r)
		if b, _, err := audit.AppendRecord(nil, 0, stamp, r); !errors.Is(err, audit.ErrRecord) || len(b) > 0 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestRiskScoreThatIsNoNumber(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r := decision()
		r.RiskScore = &f
		if got := encode(t, r); strings.Contains(got, "risk") {
			t.Errorf("got %s", got)
		}
	}
}

func TestLargeMembersBecomeBlobs(t *testing.T) {
	text := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	for _, tc := range []struct {
		name          string
		input, result int
		blobs         int
		ref           []string
	}{
		{"fits", 30000, 30000, 0, nil},
		{"input", 70000, 100, 1, []string{"input"}},
		{"result", 100, 70000, 1, []string{"result"}},
		{"input first", 50000, 40000, 1, []string{"input"}},
		{"both", 100000, 90000, 2, []string{"input", "result"}},
		{"result beyond keeping", 100, 1<<20 + 1, 0, []string{"result"}},
		{"input of 10 MiB", 10 << 20, 100, 1, []string{"input"}},
		{"input beyond keeping", 16<<20 + 1, 100, 0, []string{"input"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := decision()
			r.Input, r.Result = text(tc.input), text(tc.result)
			b, blobs, err := audit.AppendRecord(nil, 7, stamp, r)
			if err != nil || len(b) > audit.MaxRecord || len(blobs) != tc.blobs {
				t.Fatalf("%d bytes, %d blobs, %v", len(b), len(blobs), err)
			}
			var got map[string]json.RawMessage
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			for _, name := range tc.ref {
				whole := map[string][]byte{"input": r.Input, "result": r.Result}[name]
				sum := sha256.Sum256(whole)
				want := fmt.Sprintf(`{"sha256":"%s","size":%d`, hex.EncodeToString(sum[:]), len(whole))
				kept := false
				for _, b := range blobs {
					kept = kept || b.Sum == sum && bytes.Equal(b.Bytes, whole)
				}
				if kept {
					want += `,"blob":true`
				}
				if want += `}`; string(got[name]) != want {
					t.Errorf("%s: %s, want %s", name, got[name], want)
				}
			}
		})
	}
}

// However large its parts are, a record fits.
func TestRecordAlwaysFits(t *testing.T) {
	long := strings.Repeat("\x01", 1<<17)
	raw, _ := json.Marshal(long)
	list := []string{long, long, long, long, long, long}
	r := &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventDecisionError, Severity: audit.SeverityHigh, Outcome: audit.OutcomeError,
		DecisionID: long, BatchID: long, Path: long, Subject: long, Action: long, Resource: long, Tenant: long, Organization: long,
		Session: long, Device: long, Location: long, ClientIP: long, UserAgent: long, RequestedBy: long, Edge: long,
		CorrelationID: long, TraceID: long, Input: raw, Result: raw, ErrorCode: long, ErrorMessage: long, Reasons: raw, Trust: raw,
		Bundles: raw, ND: raw, Erased: list, Masked: list, OldValues: raw, NewValues: raw, AffectedFields: list, ApprovalID: long,
		Frameworks: list, Message: long, Details: raw,
	}
	b, blobs, err := audit.AppendRecord(nil, math.MaxUint64, stamp, r)
	if err != nil || len(b) > audit.MaxRecord || !json.Valid(b) || len(blobs) == 0 {
		t.Errorf("%d bytes, %d blobs, %v", len(b), len(blobs), err)
	}
	if !bytes.HasSuffix(b, []byte(`"truncated":true}`)) {
		t.Error("not marked as truncated")
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	r := decision()
	r.DecisionID, r.Path, r.Subject = "0193587b-3b40-7c6e-b1a5-0123456789ab", "verdict/authz/decision", "user:alice"
	r.Input, r.Result = []byte(`{"a":1}`), []byte(`true`)
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := audit.AppendBody(buf, r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a record, want none", n)
	}
}

func TestParseHead(t *testing.T) {
	seq, at, rest, err := audit.ParseHead([]byte(encode(t, decision())))
	want := time.Date(2026, 11, 23, 9, 0, 0, 123456000, time.UTC)
	if err != nil || seq != 7 || !at.Equal(want) || !bytes.HasPrefix(rest, []byte(`"type":"decision"`)) {
		t.Errorf("ParseHead = %d, %v, %q, %v", seq, at, rest, err)
	}
	for _, bad := range []string{
		"", "{", `{"seq":`, `{"seq":,"time":"` + stamp + `",`, `{"seq":07,"time":"` + stamp + `",`, `{"seq":-1,"time":"` + stamp + `",`,
		`{"seq":99999999999999999999,"time":"` + stamp + `",`, `{"seq":7,"time":"2026-11-23T09:00:00.12345Z",`,
		`{"seq":7,"time":"2026-11-23T09:00:00,123456Z",`, `{"seq":7,"time":"2026-13-23T09:00:00.123456Z",`, `{"seq":7,"time":"2026-11-23T09:00:00.123456Z"}`, ` {"seq":7,"time":"` + stamp + `",`,
	} {
		if _, _, _, err := audit.ParseHead([]byte(bad)); err == nil {
			t.Errorf("ParseHead(%q) succeeds", bad)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte(`{"seq":7,"time":"` + stamp + `","type":"x"}`))
	f.Add([]byte(`{"seq":10000,"time":"0000-10-01T00:00:00,000000Z",`))
	f.Add([]byte(`{"seq":18446744073709551615,"time":"9999-12-31T23:59:59.999999Z",`))
	f.Fuzz(func(t *testing.T, rec []byte) {
		seq, at, rest, err := audit.ParseHead(rec)
		if err != nil {
			if seq != 0 || !at.IsZero() || rest != nil {
				t.Fatalf("an error with results: %d, %v, %q", seq, at, rest)
			}
			return
		}
		head := fmt.Sprintf(`{"seq":%d,"time":"%s",`, seq, at.Format("2006-01-02T15:04:05.000000Z"))
		if head+string(rest) != string(rec) {
			t.Fatalf("%q came back as %q", rec, head+string(rest))
		}
	})
}

// FuzzRecord: whatever is in its strings, a record is one line of valid JSON and
// UTF-8, starts with its head, has no key twice and says in its strings what was
// put in.
func FuzzRecord(f *testing.F) {
	f.Add("alice", "ua", "msg", "/input/a", `{"a":1}`, 0.5, true, uint64(3))
	f.Add("\xff\u2028", strings.Repeat("\x00", 3000), "\u202e", "\"", "\"\xff\"", math.Inf(1), false, uint64(math.MaxUint64))
	f.Add("", "", "", "", "[", 1e300, true, uint64(0))
	f.Fuzz(func(t *testing.T, subject, agent, message, pointer, raw string, risk float64, isDecision bool, seq uint64) {
		r := decision()
		if !isDecision {
			r.Type, r.Event = audit.TypeAdministrative, audit.EventConfigChange
		}
		r.Subject, r.UserAgent, r.Message, r.ErrorMessage, r.DecisionID = subject, agent, message, subject, agent
		r.Erased, r.Masked, r.Frameworks = []string{pointer}, []string{pointer, message}, []string{agent}
		r.RiskScore = &risk
		if !json.Valid([]byte(raw)) {
			raw = ""
		}
		r.Input, r.Details, r.Reasons = []byte(raw), []byte(raw), []byte(raw)
		if isDecision && strings.ContainsAny(raw, "\n\r") {
			return // the engine's encoder writes none
		}
		b, _, err := audit.AppendRecord(nil, seq, stamp, r)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > audit.MaxRecord || !utf8.Valid(b) || bytes.ContainsAny(b, "\n\r") {
			t.Fatalf("%d bytes: %q", len(b), b)
		}
		if got, _, _, err := audit.ParseHead(b); err != nil || got != seq {
			t.Fatalf("head of %q: %d, %v", b, got, err)
		}
		keys := topLevelKeys(t, b)
		if keys[0] != "seq" || keys[1] != "time" || keys[2] != "type" {
			t.Fatalf("keys %q", keys)
		}
		var back struct {
			Subject   string
			Truncated bool
		}
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(subject, "\uFFFD"); !back.Truncated && strings.Count(back.Subject, "\uFFFD") == 0 && back.Subject != want {
			t.Fatalf("subject %q came back as %q", subject, back.Subject)
		}
	})
}

// topLevelKeys parses a record and fails if it is no object or has a key twice.
func topLevelKeys(t testing.TB, rec []byte) (keys []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(rec))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("%q: starts with %v, %v", rec, tok, err)
	}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		key, ok := tok.(string)
		if err != nil || !ok || seen[key] {
			t.Fatalf("%q: key %v, %v", rec, tok, err)
		}
		seen[key] = true
		keys = append(keys, key)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%q: value of %s: %v", rec, key, err)
		}
	}
	if _, err := d.Token(); err != nil || d.More() {
		t.Fatalf("%q: does not end: %v", rec, err)
	}
	return keys
}
