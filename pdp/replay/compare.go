package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maskPath is where a policy says what must not be shown of a decision.
const maskPath = "system/log/mask"

// maxShown is the longest result that a flip shows, in bytes.
const maxShown = 4 << 10

// hiddenResult stands in a flip for a result that may not be shown.
const hiddenResult = `"***"`

// answer is one side of the comparison.
type answer struct {
	json   json.RawMessage // nil: undefined, or failed
	code   string          // of an error
	allows bool
}

// compare returns the difference that the candidate makes, or nil. unfit says
// why there is nothing to compare.
func (x *decision) compare() (flip *Flip, unfit string) {
	old := answer{}
	if e := x.record.Error; e != nil {
		old.code = e.Code
	} else if !x.record.Undefined {
		old.json = x.record.Result
	}
	next := answer{code: codeOf(x.failure)}
	if x.failure == nil && x.value != nil {
		var err error
		if next.json, err = eval.AppendMasked(x.buf[:0], x.value, x.keys.Match, nil); err != nil {
			next = answer{code: eval.OtherCode} // it would have been no answer either
		} else {
			x.buf = next.json
		}
	}
	if old.code == next.code && bytes.Equal(old.json, next.json) {
		return nil, ""
	}
	lists := [2][]string{x.record.Masked, x.record.Erased}
	places := hidden(lists, "/result")
	for _, place := range places {
		switch strings.ToLower(strings.TrimPrefix(place, "/")) {
		case "allow", "allowed", "decision":
			return nil, ReasonResult
		}
	}
	if len(places) > 0 && old.json != nil && next.json != nil {
		same, err := next.hide(old.json, x.record)
		if err != nil {
			return nil, ReasonUnreadable
		}
		if same && old.code == next.code {
			return nil, ""
		}
	}
	old.allows, next.allows = old.code == "" && allows(old.json), x.failure == nil && allows(next.json)
	return x.flip(old, next), ""
}

// hide makes a new result look as the recorded one does where that was masked
// or erased, and tells whether they are the same then.
func (a *answer) hide(recorded json.RawMessage, r *recordOf) (same bool, err error) {
	old, err := decode(recorded)
	if err != nil {
		return false, err
	}
	next, err := decode(a.json)
	if err != nil {
		return false, err
	}
	for _, place := range hidden([2][]string{r.Masked}, "/result") {
		if shown, ok := lookup(old, parts(place)); ok {
			next = replace(next, parts(place), shown, false)
		}
	}
	for _, place := range hidden([2][]string{r.Erased}, "/result") {
		next = replace(next, parts(place), nil, true)
	}
	was, err := json.Marshal(old)
	if err != nil {
		return false, err
	}
	if a.json, err = json.Marshal(next); err != nil {
		return false, err
	}
	return bytes.Equal(was, a.json), nil
}

func decode(raw json.RawMessage) (v any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	err = decoder.Decode(&v)
	return v, err
}

// parts splits a JSON pointer (RFC 6901).
func parts(pointer string) []string {
	list := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range list {
		list[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(list[i])
	}
	return list
}

func lookup(v any, path []string) (any, bool) {
	for _, part := range path {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[part]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// replace changes or removes what is at a path, if anything is.
func replace(v any, path []string, by any, remove bool) any {
	part, last := path[0], len(path) == 1
	switch at := v.(type) {
	case map[string]any:
		old, ok := at[part]
		switch {
		case !ok:
		case last && remove:
			delete(at, part)
		case last:
			at[part] = by
		default:
			at[part] = replace(old, path[1:], by, remove)
		}
	case []any:
		i, err := strconv.Atoi(part)
		switch {
		case err != nil || i < 0 || i >= len(at):
		case last && remove:
			return append(at[:i:i], at[i+1:]...)
		case last:
			at[i] = by
		default:
			at[i] = replace(at[i], path[1:], by, remove)
		}
	}
	return v
}

// allows tells whether a result grants what was asked, as records and their
// outcome are made: true itself, or an object whose allow, allowed or decision,
// the first that is a boolean, is true.
func allows(result json.RawMessage) bool {
	if len(result) == 0 || result[0] != '{' {
		return string(result) == "true"
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(result, &members) != nil {
		return false
	}
	for _, name := range []string{"allow", "allowed", "decision"} {
		if text := string(members[name]); text == "true" || text == "false" {
			return text == "true"
		}
	}
	return false
}

// flip describes a difference.
func (x *decision) flip(old, next answer) *Flip {
	f := &Flip{DecisionID: x.record.DecisionID, Seq: x.seq, Time: x.at, Path: x.record.Path, Kind: kindOf(old, next)}
	f.Old, f.New = old.show(), next.show()
	if next.json != nil && x.candidate.Masks() {
		f.New.Result = shorten(x.masked())
	}
	f.roles, f.resource = x.subjectRoles(), x.resourceType()
	denial := next.json
	if !old.allows && old.json != nil {
		denial = old.json
	}
	f.reasons = reasonCodes(denial)
	return f
}

// kindOf names what is different.
func kindOf(old, next answer) Kind {
	switch {
	case !old.allows && next.allows:
		return DenyToAllow
	case next.code != "" && old.code == "":
		return ToError
	case old.allows && !next.allows:
		return AllowToDeny
	case old.code != "" && next.code == "":
		return FromError
	}
	return Changed
}

func (a *answer) show() Answer {
	switch {
	case a.code != "":
		return Answer{Error: a.code}
	case a.json == nil:
		return Answer{Undefined: true}
	}
	return Answer{Result: shorten(a.json)}
}

// shorten copies a result for the report.
func shorten(raw json.RawMessage) json.RawMessage {
	if len(raw) > maxShown {
		return json.RawMessage(`"(` + strconv.Itoa(len(raw)) + ` bytes)"`)
	}
	return bytes.Clone(raw)
}

// masked is the new result as the masking policy of the candidate would let it
// into the log.
func (x *decision) masked() json.RawMessage {
	hidden := json.RawMessage(hiddenResult)
	event := ast.NewObject(
		ast.Item(ast.StringTerm("decision_id"), ast.StringTerm(x.record.DecisionID)),
		ast.Item(ast.StringTerm("path"), ast.StringTerm(x.record.Path)),
		ast.Item(ast.StringTerm("result"), ast.NewTerm(x.value)),
	)
	if x.input != nil {
		event.Insert(ast.StringTerm("input"), ast.NewTerm(x.input))
	}
	res, err := x.candidate.Eval(context.Background(), &eval.Query{Path: maskPath, Input: event, Now: x.at, Background: true})
	if err != nil {
		return hidden
	}
	rules, err := mask.ParseRules(res.Value)
	if err != nil {
		return hidden
	}
	shown, _, _, err := mask.Apply(rules, event)
	if err != nil {
		return hidden
	}
	result := shown.(ast.Object).Get(ast.StringTerm("result"))
	if result == nil {
		return hidden
	}
	text, err := eval.AppendMasked(nil, result.Value, x.keys.Match, nil)
	if err != nil {
		return hidden
	}
	return text
}
