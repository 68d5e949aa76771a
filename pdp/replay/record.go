package replay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Why a decision is not replayed.
const (
	ReasonMasked     = "masked"      // the candidate may read a value that was masked or erased
	ReasonResult     = "result"      // the recorded result, or whether it allowed, was masked or erased
	ReasonMissing    = "missing"     // a part is kept by its hash only, and is not there
	ReasonAltered    = "altered"     // a part is not what was evaluated: cut off, or not valid UTF-8
	ReasonFault      = "fault"       // nothing was evaluated, since the question was not understood
	ReasonStale      = "stale"       // nothing was evaluated, since a bundle was too old
	ReasonCancelled  = "cancelled"   // the recorded evaluation was stopped, which is no answer of the policy
	ReasonNoInput    = "no_input"    // a null input and none are the same in a record, and not to the candidate
	ReasonUnrecorded = "unrecorded"  // the candidate depends on what no record keeps
	ReasonUnreadable = "unreadable"  // the record cannot be read
	SkippedQuery     = "opa.query"   // an ad-hoc query
	SkippedCompile   = "opa.compile" // a data filter or a partial evaluation
	SkippedPreview   = "preview"     // a decision by policies that somebody tried out
	SkippedSearch    = "search"      // a search over entities
)

// Bounds of a recorded document: it was within those of its time.
const (
	maxDepth   = 1000
	maxMembers = 10_000_000

	// cutPath and cutList are lengths below which a path, or the list of what is
	// masked, was not cut off by the bounds of a record: one byte takes up to six
	// there.
	cutPath = 300
	cutList = 300
)

// recordOf is what a replay needs of a record.
type recordOf struct {
	DecisionID string          `json:"decision_id"`
	Path       string          `json:"path"`
	Edge       string          `json:"edge"`
	Input      json.RawMessage `json:"input"`
	Result     json.RawMessage `json:"result"`
	Undefined  bool            `json:"undefined"`
	Error      *struct {
		Code string `json:"code"`
	} `json:"error"`
	Strict    bool            `json:"strict"`
	ND        json.RawMessage `json:"nd"`
	Erased    []string        `json:"erased"`
	Masked    []string        `json:"masked"`
	Details   json.RawMessage `json:"details"`
	Sanitized bool            `json:"sanitized"`
	Truncated bool            `json:"truncated"`
}

// isDecision tells by its first members whether a record is of a decision.
func isDecision(rec []byte) bool {
	// {"seq":N,"time":"...","type":"decision"
	const most = len(`{"seq":18446744073709551615,"time":"2006-01-02T15:04:05.000000Z","type":"decision"`)
	return bytes.Contains(rec[:min(len(rec), most)], []byte(`,"type":"decision"`))
}

// parse reads a record; skip names why it is no decision about a document.
func parse(d *decisionRecord) (r *recordOf, skip string, err error) {
	r = &recordOf{}
	text := make([]byte, 0, len(d.body)+1)
	if err := json.Unmarshal(append(append(text, '{'), d.body...), r); err != nil {
		return nil, "", fmt.Errorf("record %d: %w", d.seq, err)
	}
	switch r.Edge {
	case SkippedQuery, SkippedCompile, SkippedPreview:
		return r, r.Edge, nil
	}
	if len(r.Details) > 0 {
		var details map[string]json.RawMessage
		if json.Unmarshal(r.Details, &details) == nil && details[SkippedSearch] != nil {
			return r, SkippedSearch, nil
		}
	}
	return r, "", nil
}

// unfit says why a record alone tells that it cannot be replayed; empty: it may
// be.
func (r *recordOf) unfit() string {
	switch {
	case r.Error != nil && r.Error.Code == eval.CodeStale:
		return ReasonStale
	case r.Error != nil && !eval.EvaluatorCode(r.Error.Code):
		return ReasonFault
	case r.Error != nil && r.Error.Code == eval.CancelCode:
		return ReasonCancelled
	case r.Truncated && (len(r.Path) >= cutPath || len(strings.Join(r.Masked, "")+strings.Join(r.Erased, "")) >= cutList):
		return ReasonAltered
	case r.Sanitized && (bytes.Contains(r.Input, []byte("\uFFFD")) || bytes.Contains(r.Result, []byte("\uFFFD"))):
		return ReasonAltered
	}
	return ""
}

// hidden returns the JSON pointers of what was masked or erased below a member,
// without it.
func hidden(lists [2][]string, member string) (found []string) {
	for _, list := range lists {
		for _, pointer := range list {
			if rest, ok := strings.CutPrefix(pointer, member); ok && (rest == "" || rest[0] == '/') {
				found = append(found, rest)
			}
		}
	}
	return found
}

// reference is what stands in a record for a member that is too large for it.
type reference struct {
	Sum  string `json:"sha256"`
	Size int    `json:"size"`
	Blob bool   `json:"blob"`
}

// resolve returns a member, from beside the log when the record only refers to
// it. size is the record's. A value that merely looks like a reference is
// returned as it is: with what it would stand for it would have fitted into the
// record.
func resolve(log Log, raw json.RawMessage, size int) (_ json.RawMessage, missing bool, err error) {
	if len(raw) > 160 || !bytes.HasPrefix(raw, []byte(`{"sha256":"`)) {
		return raw, false, nil
	}
	var ref reference
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&ref) != nil || size-len(raw)+ref.Size < audit.MaxRecord-1024 {
		return raw, false, nil
	}
	var sum chain.Hash
	if decoded, err := hex.DecodeString(ref.Sum); err != nil || copy(sum[:], decoded) != len(sum) || len(decoded) != len(sum) {
		return raw, false, nil
	}
	if !ref.Blob {
		return nil, true, nil
	}
	blob, err := log.Blob(sum)
	switch {
	case errors.Is(err, audit.ErrNotFound), err == nil && len(blob) != ref.Size:
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("read blob %s: %w", sum, err)
	}
	return blob, false, nil
}

// resolveAll puts in place what stands beside the record.
func (r *recordOf) resolveAll(log Log, size int) (missing bool, err error) {
	for _, member := range []*json.RawMessage{&r.Input, &r.Result, &r.ND} {
		raw, gone, err := resolve(log, *member, size)
		if err != nil || gone {
			return gone, err
		}
		*member = raw
	}
	return false, nil
}

// isNull tells whether a member is absent, which in a record is null.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func parseInput(raw json.RawMessage) (ast.Value, error) {
	if isNull(raw) {
		return nil, nil
	}
	v, _, err := eval.ParseInput(raw, documentLimits())
	return v, err
}

func documentLimits() eval.Limits { return eval.Limits{Depth: maxDepth, Members: maxMembers} }
