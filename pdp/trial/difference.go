package trial

import (
	"regexp"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Kind is how the candidate differs from the active snapshot.
type Kind string

// The kinds. The first is no difference.
const (
	KindSame      Kind = "same"
	KindAllows    Kind = "deny_to_allow"
	KindDenies    Kind = "allow_to_deny"
	KindResult    Kind = "result"    // both allow or both do not, and say something else
	KindError     Kind = "error"     // only the candidate failed
	KindRecovered Kind = "recovered" // only the active snapshot failed
)

// flips tells whether the candidate decides otherwise.
func (k Kind) flips() bool { return k == KindAllows || k == KindDenies }

// Difference is a decision that the candidate makes otherwise. Inputs and
// results stand in the record of the decision, as far as they may be kept.
type Difference struct {
	DecisionID string    `json:"decision_id"`
	At         time.Time `json:"at"`
	Path       string    `json:"path"`
	Kind       Kind      `json:"kind"`
	Active     Side      `json:"active"`
	Candidate  Side      `json:"candidate"`
}

// Side is what one snapshot says.
type Side struct {
	Allowed   bool     `json:"allowed"`
	Undefined bool     `json:"undefined,omitempty"`
	Error     string   `json:"error,omitempty"`   // code of the failure
	Reasons   []string `json:"reasons,omitempty"` // codes, the first ones
}

// maxReasons bounds the codes of one side.
const maxReasons = 8

// names are members of results.
type names struct {
	verdicts      [3]*ast.Term
	reasons, code *ast.Term
	word          *regexp.Regexp // what a code is
}

func newNames() names {
	return names{
		verdicts: [3]*ast.Term{ast.StringTerm("allow"), ast.StringTerm("allowed"), ast.StringTerm("decision")},
		reasons:  ast.StringTerm("reasons"), code: ast.StringTerm("code"),
		word: regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,63}$`),
	}
}

// side describes a result. Of reasons only what looks like a code is told: it
// may be anything, and is not masked here.
func (t *Trial) side(v ast.Value, err error) Side {
	if err != nil {
		return Side{Error: errorCode(err)}
	}
	s := Side{Undefined: v == nil}
	if b, ok := v.(ast.Boolean); ok {
		s.Allowed = bool(b)
	}
	obj, ok := v.(ast.Object)
	if !ok {
		return s
	}
	for _, name := range t.names.verdicts {
		if found := obj.Get(name); found != nil {
			if b, ok := found.Value.(ast.Boolean); ok {
				s.Allowed = bool(b)
				break
			}
		}
	}
	found := obj.Get(t.names.reasons)
	if found == nil {
		return s
	}
	list, ok := found.Value.(*ast.Array)
	if !ok {
		return s
	}
	for i := range min(list.Len(), maxReasons) {
		reason, ok := list.Elem(i).Value.(ast.Object)
		if !ok {
			continue
		}
		if code := reason.Get(t.names.code); code != nil {
			if text, ok := code.Value.(ast.String); ok && t.names.word.MatchString(string(text)) {
				s.Reasons = append(s.Reasons, string(text))
			}
		}
	}
	return s
}

// kindOf compares two sides whose results are the same or are not.
func kindOf(active, candidate Side, same bool) Kind {
	switch {
	case active.Error != "" && candidate.Error != "":
		return KindSame
	case candidate.Error != "":
		return KindError
	case active.Error != "":
		return KindRecovered
	case same:
		return KindSame
	case candidate.Allowed && !active.Allowed:
		return KindAllows
	case active.Allowed && !candidate.Allowed:
		return KindDenies
	}
	return KindResult
}
