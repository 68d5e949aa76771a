package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// DeniedError is returned when the policy does not let values be opened.
type DeniedError struct {
	DecisionID string
	// Reasons and Obligations are JSON arrays, as the policy gave them; nil when
	// it gave none.
	Reasons, Obligations []byte
}

// Error names the decision.
func (e *DeniedError) Error() string {
	return "the policy does not allow this: decision " + e.DecisionID
}

// question is what is asked of the policy.
type question struct {
	action string
	items  []keys.Ciphertext
	to     []keys.Class // of a re-encryption: zero where the class stays
}

// class of an item as its header tells it; zero: it is malformed.
func (q *question) class(i int) keys.Class {
	h, err := keys.Inspect(q.items[i].Text)
	if err != nil {
		return 0
	}
	return h.Class
}

// facts of a question. Values and ciphertexts are not among them.
type facts struct {
	Caller   callerFacts    `json:"caller"`
	Subject  any            `json:"subject"`
	Action   map[string]any `json:"action"`
	Resource resourceFacts  `json:"resource"`
	Context  any            `json:"context,omitempty"`
}

type callerFacts struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`
	Scopes []string `json:"scopes"`
}

type entity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// resourceFacts are of the document the values belong to, or of the first of
// several, which properties.documents lists.
type resourceFacts struct {
	entity
	Properties valueFacts `json:"properties"`
}

type valueFacts struct {
	Count int `json:"count"`
	// Classes counts the values by classification.
	Classes map[string]int `json:"classes"`
	// Malformed counts what is no ciphertext.
	Malformed int `json:"malformed,omitempty"`
	// Lowered counts the values that get a lower classification.
	Lowered   int         `json:"lowered,omitempty"`
	Tenants   []string    `json:"tenants"`
	Documents []*document `json:"documents"`
}

// document is what is opened of one document.
type document struct {
	Tenant   string   `json:"tenant"`
	Type     string   `json:"type"`
	ID       string   `json:"id"`
	Pointers []string `json:"pointers"`
}

// ask builds the facts.
func (q *question) facts(a *Asker) *facts {
	f := &facts{
		Caller:  callerFacts{Name: a.Caller, Kind: a.Kind, Scopes: append([]string{}, a.Scopes...)},
		Subject: entity{Type: "service", ID: a.Caller},
		Action:  map[string]any{"name": q.action},
	}
	v := &f.Resource.Properties
	v.Count, v.Classes, v.Tenants, v.Documents = len(q.items), map[string]int{}, []string{}, []*document{}
	documents := map[keys.Context]*document{}
	for i := range q.items {
		class := q.class(i)
		if class == 0 {
			v.Malformed++
		} else {
			v.Classes[class.String()]++
		}
		if q.to != nil && q.to[i] != 0 && q.to[i] < class {
			v.Lowered++
		}
		c := q.items[i].Context
		scope := keys.Context{Tenant: c.Tenant, Type: c.Type, ID: c.ID}
		d := documents[scope]
		if d == nil {
			d = &document{Tenant: c.Tenant, Type: c.Type, ID: c.ID, Pointers: []string{}}
			documents[scope] = d
			v.Documents = append(v.Documents, d)
			v.Tenants = append(v.Tenants, c.Tenant)
		}
		d.Pointers = append(d.Pointers, c.Pointer)
	}
	slices.Sort(v.Tenants)
	v.Tenants = slices.Compact(v.Tenants)
	f.Resource.entity = entity{Type: "ciphertext"}
	if len(v.Documents) > 0 && v.Documents[0].Type != "" {
		f.Resource.entity = entity{Type: v.Documents[0].Type, ID: v.Documents[0].ID}
	}
	return f
}

// input is the question as the policy gets it.
func (q *question) input(a *Asker) (ast.Value, error) {
	encoded, err := json.Marshal(q.facts(a))
	if err != nil {
		return nil, fmt.Errorf("encode question: %w", err)
	}
	value, _, err := eval.ParseInput(encoded, eval.Limits{Depth: eval.DefaultDepth, Members: 20 * MaxItems})
	if err != nil {
		return nil, fmt.Errorf("read question: %w", err)
	}
	input, ok := value.(ast.Object)
	if !ok {
		return nil, errors.New("the question is no object")
	}
	for name, value := range map[string]ast.Value{"subject": a.Subject, "context": a.Facts} {
		if value != nil {
			input.Insert(ast.StringTerm(name), ast.NewTerm(value))
		}
	}
	return input, nil
}

// decide asks the policy. The id of a permission comes back when the decision
// is durable; everything that is not a permission is an error.
func (s *Service) decide(ctx context.Context, a *Asker, q *question) (string, error) {
	input, err := q.input(a)
	if err != nil {
		return "", err
	}
	d, err := s.decider.Decide(ctx, &pdp.Query{
		Edge: Edge, Path: DecisionPath, Input: input,
		Caller: a.Caller, ClientIP: a.ClientIP, UserAgent: a.UserAgent, CorrelationID: a.CorrelationID, TraceID: a.TraceID,
	})
	if d == nil {
		if err == nil {
			err = errors.New("there is no decision")
		}
		return "", err
	}
	defer d.Release()
	if err == nil && d.Allowed {
		return d.ID, nil
	}
	denied := &DeniedError{DecisionID: d.ID}
	if err != nil {
		denied.Reasons = []byte(`[{"code":"policy_error","policy":"verdict.keys","detail":"the policy could not be evaluated"}]`)
		return "", denied
	}
	var answer struct{ Reasons, Obligations json.RawMessage }
	if json.Unmarshal(d.JSON, &answer) == nil { // any other answer gives no reasons
		denied.Reasons, denied.Obligations = answer.Reasons, answer.Obligations
	}
	return "", denied
}
