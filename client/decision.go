package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Decision is the answer to a Request. The zero value is a denial.
//
// Its slices and maps must not be changed: with a cache other callers have them
// too.
type Decision struct {
	// Allowed is the whole answer. Everything else explains it.
	Allowed bool
	// ID names the record of the decision in the audit log.
	ID string
	// Outcome is permit, deny, not_applicable or indeterminate; empty when the
	// policy does not say.
	Outcome string
	// Reasons are why. They speak of the policy, not to a user.
	Reasons []Reason
	// Obligations must be carried out by whoever acts on the decision. A service
	// that does not know the type of one must treat a permission as a denial.
	Obligations []Obligation
	// Advice may be ignored without harm.
	Advice []Obligation
	// Trust is how far the subject's surroundings are trusted; nil when the
	// policy did not weigh them.
	Trust *Trust
	// Receipt proves that the decision is in the log; nil when it is not
	// durable yet.
	Receipt *Receipt
	// Context is all that the server said beside the decision, as JSON.
	Context json.RawMessage
	// Cached tells that the answer was kept from an earlier question, and that
	// the log has no record of this one.
	Cached bool
	// Err is set in an answer of AuthorizeAll whose question could not be
	// decided, which is a denial.
	Err error
}

// Reason is one reason of a decision.
type Reason struct {
	Code   string `json:"code"`
	Policy string `json:"policy"`
	Detail string `json:"detail"`
}

// Obligation is something to do, in the shape of the AuthZEN working group's
// profile. The standard policies give step-up and field-filter.
type Obligation struct {
	ID         string         `json:"id"`
	Type       string         `json:"type"`
	Properties map[string]any `json:"properties"`
}

// Trust is the score of the standard policies: 0 to 1, risk is what is missing
// to 1, level is untrusted, low, medium, high or verified.
type Trust struct {
	Score   float64  `json:"score"`
	Risk    float64  `json:"risk"`
	Level   string   `json:"level"`
	Zone    string   `json:"zone"`
	Factors []Factor `json:"factors"`
}

// Factor is one part of a score.
type Factor struct {
	Name         string  `json:"name"`
	Weight       float64 `json:"weight"`
	Value        float64 `json:"value"`
	Contribution float64 `json:"contribution"`
}

// Receipt names the leaf of the log that holds the record.
type Receipt struct {
	Log      string `json:"log"`
	Seq      uint64 `json:"seq"`
	LeafHash string `json:"leaf_hash"` // SHA-256, hexadecimal
}

// StepUp is what stronger or fresher authentication would have to be
// (RFC 9470).
type StepUp struct {
	ACRValues []string
	AMRValues []string
	// MaxAge is how old the authentication may be; negative: any age.
	MaxAge time.Duration
}

const stepUp = "step-up"

// StepUp returns what authentication a denial asks for. It tells false when
// authentication would not help.
func (d *Decision) StepUp() (StepUp, bool) {
	i := slices.IndexFunc(d.Obligations, func(o Obligation) bool { return o.Type == stepUp })
	if d.Allowed || i < 0 {
		return StepUp{}, false
	}
	properties := d.Obligations[i].Properties
	s := StepUp{
		ACRValues: texts(properties["acr_values"]), AMRValues: texts(properties["amr_values"]), MaxAge: -1,
	}
	if seconds, ok := properties["max_age"].(float64); ok && seconds >= 0 {
		s.MaxAge = time.Duration(min(seconds, maxSeconds) * float64(time.Second))
	}
	return s, true
}

// maxSeconds keeps durations within what an int64 of nanoseconds can hold.
const maxSeconds = 1 << 32

func texts(v any) []string {
	list, _ := v.([]any)
	var all []string
	for _, item := range list {
		if s, ok := item.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// Challenge is the value of a WWW-Authenticate header that asks for the
// authentication (RFC 9470, section 3).
func (s StepUp) Challenge() string {
	var b strings.Builder
	b.WriteString(`Bearer error="insufficient_user_authentication"`)
	if acr := quotable(strings.Join(s.ACRValues, " ")); acr != "" {
		fmt.Fprintf(&b, `, acr_values="%s"`, acr)
	}
	if s.MaxAge >= 0 {
		fmt.Fprintf(&b, `, max_age="%d"`, int64(s.MaxAge/time.Second))
	}
	return b.String()
}

// quotable is text as a quoted-string can hold it (RFC 9110, section 5.6.4),
// without what it cannot.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, text)
}

// object is a JSON object by its members' exact names: encoding/json would take
// Decision for decision.
type object map[string]json.RawMessage

// parseDecision reads {"decision": bool, "context": {...}}.
func parseDecision(raw []byte) (Decision, error) {
	var answer object
	if err := json.Unmarshal(raw, &answer); err != nil {
		return Decision{}, err
	}
	allowed, ok := boolean(answer["decision"])
	if !ok {
		return Decision{}, errors.New("decision is not a boolean")
	}
	d := Decision{Allowed: allowed, Context: answer["context"]}
	if err := d.readContext(); err != nil {
		return Decision{}, err
	}
	return d, nil
}

// parseResult reads the result of a decision of the standard policies, which has
// allow and, beside it, what the context of a decision has.
func parseResult(raw json.RawMessage, id string) (Decision, error) {
	var result object
	if err := json.Unmarshal(raw, &result); err != nil {
		return Decision{}, err
	}
	allowed, ok := boolean(result["allow"])
	if !ok {
		return Decision{}, errors.New("allow is not a boolean")
	}
	d := Decision{Allowed: allowed, Context: raw}
	if err := d.readContext(); err != nil {
		return Decision{}, err
	}
	d.ID = id
	return d, nil
}

func boolean(raw json.RawMessage) (value, ok bool) {
	switch string(raw) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// readContext takes the members that have a meaning out of the context. What a
// policy of somebody's own gives in another shape is left to Context, but for
// obligations: one that cannot be read cannot be carried out.
func (d *Decision) readContext() error {
	if len(d.Context) == 0 || string(d.Context) == "null" {
		return nil
	}
	var context object
	if err := json.Unmarshal(d.Context, &context); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if err := read(context["obligations"], &d.Obligations); err != nil {
		return fmt.Errorf("obligations: %w", err)
	}
	if slices.ContainsFunc(d.Obligations, func(o Obligation) bool { return o.Type == "" }) {
		return errors.New("obligations: one has no type")
	}
	d.Reasons = reasons(context["reasons"])
	if read(context["advice"], &d.Advice) != nil {
		d.Advice = nil
	}
	if read(context["trust"], &d.Trust) != nil {
		d.Trust = nil
	}
	if read(context["receipt"], &d.Receipt) != nil {
		d.Receipt = nil
	}
	_ = read(context["decision_id"], &d.ID)   // stays empty
	_ = read(context["decision"], &d.Outcome) // stays empty
	return nil
}

// read decodes a member that may be absent.
func read(raw json.RawMessage, out any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// reasons reads objects, or texts as policies of somebody's own often give.
func reasons(raw json.RawMessage) []Reason {
	var list []Reason
	if read(raw, &list) == nil {
		return list
	}
	var details []string
	if read(raw, &details) != nil {
		return nil
	}
	list = make([]Reason, len(details))
	for i, detail := range details {
		list[i] = Reason{Detail: detail}
	}
	return list
}
