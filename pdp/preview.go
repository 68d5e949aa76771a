package pdp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// EdgePreview marks the records of previews: they are no decisions, and nothing
// that counts or repeats decisions may take them for such.
const EdgePreview = "preview"

// Bounds of previews, each of which may compile all policies anew.
const (
	MaxPreviews = 2 // at one time

	previewPatience = time.Second // how long another one waits for its turn
	maxToldModules  = 16 << 10    // bytes of modules that a record holds as text
)

// ErrPreviewBusy is returned by Preview when as many previews run as may.
var ErrPreviewBusy = errors.New("too many previews are running")

// ErrFacts is returned by Preview for facts without an input that could hold
// them.
var ErrFacts = errors.New("facts need an input that is an object")

// PreviewOverlay is what a preview changes: of the policies, and of the facts of
// the question.
type PreviewOverlay struct {
	eval.Overlay
	// Facts replace facts of the input, by the rules of RFC 7396: subject and
	// resource are merged over the properties of these, everything else over the
	// context. Nil: they stay.
	Facts ast.Object
}

// Previewed is what would be decided, and what is.
type Previewed struct {
	*Decision
	Err     error // the evaluation's error, as Decide returns it
	Changes eval.Changes
	Active  Ruling
	Same    bool // both answers are the same
}

// Ruling is what the active policy says to a question.
type Ruling struct {
	Value ast.Value // nil: undefined
	Err   error
}

// Preview answers q as the active snapshot would with an overlay, and tells what
// it says without. Nothing changes. What is answered is recorded, as a preview.
// Errors are ErrPreviewBusy, ErrFacts, those of eval.Snapshot.Preview, which
// leave no record, or wrap ErrUnrecorded: then nothing may be answered.
func (p *PDP) Preview(ctx context.Context, q *Query, o *PreviewOverlay) (*Previewed, error) {
	if err := p.enterPreview(ctx); err != nil {
		return nil, err
	}
	defer func() { <-p.previews }()
	active := p.engine.Active()
	asked := *q
	asked.Edge = EdgePreview
	var err error
	if asked.Input, err = WithFacts(q.Input, o.Facts); err != nil {
		return nil, err
	}
	out := &Previewed{}
	build := func() (err error) {
		asked.Snapshot, out.Changes, err = active.Preview(&o.Overlay)
		return err
	}
	if len(o.Modules) > 0 {
		err = p.options.Background(build)
	} else {
		err = build() // nothing is compiled
	}
	if err != nil {
		return nil, err
	}
	out.Active = p.ruling(ctx, active, q)
	if asked.Details, err = previewDetails(o, out); err != nil {
		return nil, err
	}
	asked.previewOf = active
	if out.Decision, err = p.Decide(ctx, &asked); out.Decision == nil {
		return nil, err
	}
	out.Err = err
	out.Same = err == nil && out.Active.Err == nil && eval.Same(out.Value, out.Active.Value)
	return out, nil
}

// enterPreview waits until another preview may run.
func (p *PDP) enterPreview(ctx context.Context) error {
	timer := time.NewTimer(previewPatience)
	defer timer.Stop()
	select {
	case p.previews <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrPreviewBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ruling evaluates a question on the active snapshot. It is part of a preview,
// and recorded with it.
func (p *PDP) ruling(ctx context.Context, active *eval.Snapshot, q *Query) Ruling {
	plain := Query{Path: q.Path, Input: q.Input, Strict: q.Strict}
	res, err := plain.eval(ctx, active, p.options.Now())
	if err == nil {
		return Ruling{Value: res.Value}
	}
	if deny := standardDenial(&plain, err); deny != nil {
		return Ruling{Value: deny}
	}
	return Ruling{Err: err}
}

// WithFacts returns an input with facts replaced, as PreviewOverlay says. The
// error is ErrFacts.
func WithFacts(input ast.Value, facts ast.Object) (ast.Value, error) {
	if facts == nil {
		return input, nil
	}
	question, ok := input.(ast.Object)
	if !ok {
		return nil, ErrFacts
	}
	patch, context := ast.NewObject(), ast.NewObject()
	facts.Foreach(func(name, value *ast.Term) {
		switch text(name.Value) {
		case "subject", "resource":
			patch.Insert(name, ast.ObjectTerm(ast.Item(ast.StringTerm("properties"), value)))
		default:
			context.Insert(name, value)
		}
	})
	if context.Len() > 0 {
		patch.Insert(ast.StringTerm("context"), ast.NewTerm(context))
	}
	return eval.MergePatch(question, patch), nil
}

// previewDetails is what the record of a preview says of the overlay: the text
// of its modules where that is short, and what the active policy said. Data and
// facts are told by their hash; the facts stand in the input.
func previewDetails(o *PreviewOverlay, out *Previewed) ([]byte, error) {
	type told struct {
		Text   *string `json:"text,omitempty"`
		SHA256 string  `json:"sha256"`
	}
	var d struct {
		Preview struct {
			eval.Changes
			Modules map[string]told `json:"modules,omitempty"`
			Data    string          `json:"data_sha256,omitempty"`
			Facts   string          `json:"facts_sha256,omitempty"`
		} `json:"preview"`
		Active struct {
			Undefined bool   `json:"undefined,omitempty"`
			Error     string `json:"error,omitempty"`
		} `json:"active"`
	}
	d.Preview.Changes, d.Preview.Modules = out.Changes, map[string]told{}
	size := 0
	for _, module := range o.Modules {
		size += len(module)
	}
	for id, module := range o.Modules {
		if module == nil {
			continue
		}
		m := told{SHA256: digest(module)}
		if size <= maxToldModules {
			whole := string(module)
			m.Text = &whole
		}
		d.Preview.Modules[id] = m
	}
	if o.Data != nil {
		d.Preview.Data = digest([]byte(o.Data.String()))
	}
	if o.Facts != nil {
		d.Preview.Facts = digest([]byte(o.Facts.String()))
	}
	if out.Active.Err != nil {
		d.Active.Error, _ = errorText(out.Active.Err)
	}
	d.Active.Undefined = out.Active.Err == nil && out.Active.Value == nil
	encoded, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode overlay: %w", err)
	}
	return encoded, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
