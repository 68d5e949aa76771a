package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/verdict-pdp/verdict/audit/chain"
)

const (
	// MaxRecord is the largest record, in bytes: what the 16-bit lengths of C2SP
	// tlog-tiles entry bundles can say.
	MaxRecord = 1<<16 - 1
	// MaxResultBlob is the largest value, other than an input, that is kept beside a
	// record too small for it; of a larger one only hash and size remain.
	MaxResultBlob = 1 << 20
	// MaxInputBlob is the largest input that is kept.
	MaxInputBlob = 16 << 20

	maxName = 1 << 10 // bytes of an encoded short string
	maxPath = 2 << 10 // of a subject, action, resource or path
	maxText = 4 << 10 // of a message
	maxList = 4 << 10 // of a list of strings

	timeLayout = "2006-01-02T15:04:05.000000Z"
	// maxHead is the longest `{"seq":N,"time":"...",`.
	maxHead = len(`{"seq":`) + 20 + len(`,"time":"`) + len(timeLayout) + len(`",`)
	// headRoom is what an entry's buffer keeps free before the body, so that the
	// writer can put the head there without moving the body.
	headRoom = 72
	maxBody  = MaxRecord - maxHead
)

// The members that hold encoded JSON, in the order of the record.
const (
	rawInput = iota
	rawResult
	rawReasons
	rawTrust
	rawBundles
	rawND
	rawOld
	rawNew
	rawDetails
	rawCount
)

// raws holds the encoded members of a record while it is encoded: they may be
// replaced by references to blobs.
type raws struct {
	member [rawCount][]byte
	blobs  []Blob
	found  text
}

// appendBody appends everything of the record behind the head that the writer
// makes: it starts with `"type":` and ends with `}`. It returns the values that
// had to leave the record.
func appendBody(dst []byte, r *Record) ([]byte, []Blob, error) {
	if err := r.validate(); err != nil {
		return dst, nil, err
	}
	m := raws{member: [rawCount][]byte{
		r.Input, r.Result, r.Reasons, r.Trust, r.Bundles, r.ND, r.OldValues, r.NewValues, r.Details,
	}}
	if err := m.check(r.Type); err != nil {
		return dst, nil, err
	}
	for m.size() > maxBody {
		m.shrink()
	}
	start := len(dst)
	for {
		dst = appendMembers(dst[:start], r, &m)
		if len(dst)-start <= maxBody {
			return dst, m.blobs, nil
		}
		m.shrink()
	}
}

// check replaces invalid UTF-8 and, for records that are not decisions, insists
// on valid JSON: those come from many places and are rare.
func (m *raws) check(t Type) error {
	for i, b := range m.member {
		if len(b) == 0 {
			continue
		}
		if !utf8.Valid(b) {
			m.member[i] = bytes.ToValidUTF8(b, []byte("\uFFFD"))
			m.found |= textSanitized
		}
		if t == TypeDecision {
			continue
		}
		if !json.Valid(b) {
			return fmt.Errorf("member %d is not JSON: %w", i, ErrRecord)
		}
		if b[0] != '"' && bytes.ContainsAny(b, "\n\r") {
			var line bytes.Buffer
			if err := json.Compact(&line, m.member[i]); err != nil {
				return fmt.Errorf("member %d: %w: %w", i, ErrRecord, err)
			}
			m.member[i] = line.Bytes()
		}
	}
	return nil
}

func (m *raws) size() (n int) {
	for _, b := range m.member {
		n += len(b)
	}
	return n
}

// shrink replaces the longest member by its hash and size, and keeps its bytes as
// a blob unless they are beyond all bounds. The strings of a record are bounded
// so that it always fits when all its members are replaced.
func (m *raws) shrink() {
	longest := 0
	for i, b := range m.member {
		if len(b) > len(m.member[longest]) {
			longest = i
		}
	}
	b := m.member[longest]
	sum := chain.Hash(sha256.Sum256(b))
	limit := MaxResultBlob
	if longest == rawInput {
		limit = MaxInputBlob
	}
	ref := make([]byte, 0, 128)
	if longest == rawReasons {
		ref = append(ref, '[')
	}
	ref = append(ref, `{"sha256":"`...)
	ref, _ = appendHex(ref, sum)
	ref = append(ref, `","size":`...)
	ref = strconv.AppendInt(ref, int64(len(b)), 10)
	if len(b) <= limit {
		ref = append(ref, `,"blob":true`...)
		m.blobs = append(m.blobs, Blob{Sum: sum, Bytes: bytes.Clone(b)})
	}
	ref = append(ref, '}')
	if longest == rawReasons {
		ref = append(ref, ']')
	}
	m.member[longest] = ref
}

func appendHex(dst []byte, h chain.Hash) ([]byte, error) {
	for _, c := range h {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst, nil
}

// writer appends the members of one record.
type writer struct {
	b     []byte
	found text
}

// appendMembers appends the record in the frozen order of its fields.
func appendMembers(dst []byte, r *Record, m *raws) []byte {
	decision := r.Type == TypeDecision
	w := writer{b: dst, found: m.found}
	w.constant(`"type":"`, string(r.Type))
	w.constant(`,"event":"`, r.Event)
	w.constant(`,"severity":"`, string(r.Severity))
	w.constant(`,"outcome":"`, string(r.Outcome))
	w.text(`,"decision_id":`, r.DecisionID, maxName, decision)
	w.text(`,"batch_decision_id":`, r.BatchID, maxName, false)
	w.text(`,"path":`, r.Path, maxPath, decision)
	w.circumstances(r)
	w.raw(`,"input":`, m.member[rawInput], "null", decision)
	w.raw(`,"result":`, m.member[rawResult], "null", decision)
	w.flag(`,"undefined":true`, r.Undefined)
	if r.ErrorCode != "" || r.ErrorMessage != "" {
		w.text(`,"error":{"code":`, r.ErrorCode, maxName, true)
		w.text(`,"message":`, r.ErrorMessage, maxText, true)
		w.b = append(w.b, '}')
	}
	w.raw(`,"reasons":`, m.member[rawReasons], "[]", decision)
	w.raw(`,"trust":`, m.member[rawTrust], "", false)
	if f := r.RiskScore; f != nil && !math.IsNaN(*f) && !math.IsInf(*f, 0) {
		w.b = append(w.b, `,"risk_score":`...)
		w.b = strconv.AppendFloat(w.b, *f, 'g', -1, 64)
	}
	w.raw(`,"bundles":`, m.member[rawBundles], "{}", decision)
	w.flag(`,"strict":true`, r.Strict)
	if decision || r.Duration != 0 {
		w.b = append(w.b, `,"duration_ns":`...)
		w.b = strconv.AppendInt(w.b, int64(r.Duration), 10)
	}
	w.raw(`,"nd":`, m.member[rawND], "", false)
	w.list(`,"erased":[`, r.Erased)
	w.list(`,"masked":[`, r.Masked)
	w.raw(`,"old_values":`, m.member[rawOld], "", false)
	w.raw(`,"new_values":`, m.member[rawNew], "", false)
	w.list(`,"affected_fields":[`, r.AffectedFields)
	w.text(`,"approval_id":`, r.ApprovalID, maxName, false)
	w.list(`,"frameworks":[`, r.Frameworks)
	w.text(`,"message":`, r.Message, maxText, false)
	w.raw(`,"details":`, m.member[rawDetails], "", false)
	w.flag(`,"sanitized":true`, w.found&textSanitized != 0)
	w.flag(`,"truncated":true`, w.found&textTruncated != 0)
	return append(w.b, '}')
}

// circumstances appends who asked what of whom, from where.
func (w *writer) circumstances(r *Record) {
	w.text(`,"subject":`, r.Subject, maxPath, false)
	w.text(`,"action":`, r.Action, maxPath, false)
	w.text(`,"resource":`, r.Resource, maxPath, false)
	w.text(`,"tenant":`, r.Tenant, maxName, false)
	w.text(`,"organization":`, r.Organization, maxName, false)
	w.text(`,"session":`, r.Session, maxName, false)
	w.text(`,"device":`, r.Device, maxName, false)
	w.text(`,"location":`, r.Location, maxName, false)
	w.text(`,"client_ip":`, r.ClientIP, maxName, false)
	w.text(`,"user_agent":`, r.UserAgent, maxName, false)
	w.text(`,"requested_by":`, r.RequestedBy, maxName, false)
	w.text(`,"edge":`, r.Edge, maxName, false)
	w.text(`,"correlation_id":`, r.CorrelationID, maxName, false)
	w.text(`,"trace_id":`, r.TraceID, maxName, false)
}

// constant appends a member whose value needs no escape; open ends with a quote.
func (w *writer) constant(open, value string) {
	w.b = append(append(append(w.b, open...), value...), '"')
}

func (w *writer) flag(member string, set bool) {
	if set {
		w.b = append(w.b, member...)
	}
}

func (w *writer) text(name, value string, limit int, always bool) {
	if value == "" && !always {
		return
	}
	var found text
	w.b, found = appendText(append(w.b, name...), value, limit)
	w.found |= found
}

func (w *writer) raw(name string, value []byte, absent string, always bool) {
	switch {
	case len(value) != 0:
		w.b = append(append(w.b, name...), value...)
	case always:
		w.b = append(append(w.b, name...), absent...)
	}
}

// list appends strings until their encoded length reaches maxList.
func (w *writer) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.b = append(w.b, name...)
	start := len(w.b)
	for i, v := range values {
		mark := len(w.b)
		if i > 0 {
			w.b = append(w.b, ',')
		}
		var found text
		w.b, found = appendText(w.b, v, maxName)
		if len(w.b)-start > maxList {
			w.b = w.b[:mark]
			w.found |= textTruncated
			break
		}
		w.found |= found
	}
	w.b = append(w.b, ']')
}

// appendHead appends `{"seq":N,"time":"...",`.
func appendHead(dst []byte, seq uint64, at []byte) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"time":"`...)
	dst = append(dst, at...)
	return append(dst, `",`...)
}

// ParseHead reads the sequence number and the time with which every record
// starts, and returns the rest of the record behind them. It parses nothing else.
func ParseHead(rec []byte) (seq uint64, at time.Time, rest []byte, err error) {
	bad := func() (uint64, time.Time, []byte, error) {
		return 0, time.Time{}, nil, fmt.Errorf("record of %d bytes does not start with seq and time", len(rec))
	}
	rest, ok := bytes.CutPrefix(rec, []byte(`{"seq":`))
	if !ok {
		return bad()
	}
	digits := 0
	for digits < len(rest) && digits < 20 && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	if digits > 1 && rest[0] == '0' {
		return bad()
	}
	seq, err = strconv.ParseUint(string(rest[:digits]), 10, 64)
	if err != nil {
		return bad()
	}
	rest, ok = bytes.CutPrefix(rest[digits:], []byte(`,"time":"`))
	if !ok || len(rest) < len(timeLayout)+2 || string(rest[len(timeLayout):len(timeLayout)+2]) != `",` {
		return bad()
	}
	text := rest[:len(timeLayout)]
	at, err = time.Parse(timeLayout, string(text))
	var again [len(timeLayout) + 8]byte
	if err != nil || !bytes.Equal(at.AppendFormat(again[:0], timeLayout), text) { // Parse takes a comma too
		return bad()
	}
	return seq, at, rest[len(timeLayout)+2:], nil
}
