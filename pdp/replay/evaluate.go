package replay

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxPasses is how often one decision is evaluated to find recorded results by
// arguments that a record cannot hold as they are, such as sets.
const maxPasses = 4

// clock is the built-in whose result every record holds: it was made then.
const clock = "time.now_ns"

// outcome is what became of one record.
type outcome struct {
	other      bool   // not of a path that is asked for
	skip       string // why it is no decision about a document
	unfit      string // why it could not be replayed
	seq        uint64
	time       time.Time
	unrecorded bool // the candidate asked for chance that the record does not hold
	flip       *Flip
}

// evaluation replays one record after the other. It belongs to one goroutine.
type evaluation struct {
	log       Log
	keys      mask.Keys
	candidate *eval.Snapshot
	request   *Request
	reaches   map[string]eval.Reach
	buf       []byte
}

// maxReaches bounds the paths whose reach is remembered.
const maxReaches = 4096

// replay evaluates one record. An error is one of reading the log, or of ctx.
func (e *evaluation) replay(ctx context.Context, d *decisionRecord) (o outcome, err error) {
	o.seq, o.time = d.seq, d.time
	r, skip, err := parse(d)
	switch {
	case err != nil:
		o.unfit = ReasonUnreadable
		return o, nil
	case !e.request.wants(r.Path):
		o.other = true
		return o, nil
	case skip != "":
		o.skip = skip
		return o, nil
	}
	if o.unfit = r.unfit(); o.unfit != "" {
		return o, nil
	}
	missing, err := r.resolveAll(e.log, d.size)
	if err != nil {
		return o, err
	}
	if missing {
		o.unfit = ReasonMissing
		return o, nil
	}
	x, unfit := e.prepare(r, d)
	if unfit == "" {
		unfit = x.evaluate(ctx)
	}
	if err := ctx.Err(); err != nil {
		return o, err
	}
	if o.unfit = unfit; unfit != "" {
		return o, nil
	}
	o.unrecorded = x.unrecorded
	if o.flip, o.unfit = x.compare(); o.flip != nil {
		o.flip.Unrecorded = x.unrecorded
	}
	return o, nil
}

// wants tells whether decisions of a path count.
func (q *Request) wants(path string) bool {
	return len(q.Paths) == 0 || Covers(q.Paths, path)
}

// Covers tells whether a decision path is one of those listed. One of these that
// ends in a slash stands for all below it.
func Covers(list []string, path string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return covers(p, path) })
}

// covers tells whether a path that may end in a slash stands for another.
func covers(pattern, path string) bool {
	pattern, path = strings.TrimPrefix(pattern, "/"), strings.TrimPrefix(path, "/")
	if strings.HasSuffix(pattern, "/") || pattern == "" {
		return strings.HasPrefix(path, pattern)
	}
	return path == pattern
}

// decision is a record that can be replayed, with its input and, once it is
// evaluated, its new result.
type decision struct {
	*evaluation
	record *recordOf
	at     time.Time
	seq    uint64

	input ast.Value
	nd    ast.Object
	lost  []string // built-ins whose results are not all there; "" stands for every one
	reach eval.Reach

	reply
}

// reply is what the candidate says.
type reply struct {
	value      ast.Value // nil: undefined
	failure    error
	unrecorded bool // it asked for chance that the record does not hold
}

// prepare reads the documents of a record, and says why the candidate could not
// do with them; empty: it can.
func (e *evaluation) prepare(r *recordOf, d *decisionRecord) (x *decision, unfit string) {
	x = &decision{evaluation: e, record: r, at: d.time, seq: d.seq, reach: e.reach(r.Path)}
	lists := [2][]string{r.Masked, r.Erased}
	for _, pointer := range hidden(lists, "/input") {
		if x.reach.Reads(pointer) {
			return nil, ReasonMasked
		}
	}
	if slices.Contains(hidden(lists, "/result"), "") {
		return nil, ReasonResult
	}
	if x.reach.Unrecorded {
		return nil, ReasonUnrecorded
	}
	var err error
	if x.input, err = parseInput(r.Input); err != nil {
		return nil, ReasonUnreadable
	}
	if unreadable := x.prepareND(lists); unreadable {
		return nil, ReasonUnreadable
	}
	return x, ""
}

// prepareND reads the results of non-deterministic built-ins and notes which of
// them are not all there.
func (x *decision) prepareND(lists [2][]string) (unreadable bool) {
	broken := map[string]bool{} // something inside of a result is hidden
	for i, list := range lists {
		for _, pointer := range hidden([2][]string{list}, "/nd_builtin_cache") {
			parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
			x.lost = append(x.lost, parts[0])
			broken[parts[0]] = broken[parts[0]] || i == 0 || len(parts) > 2
		}
	}
	if isNull(x.record.ND) || broken[""] {
		return false
	}
	nd, err := eval.ParseND(x.record.ND, documentLimits())
	if err != nil {
		return true
	}
	x.nd = ast.NewObject()
	nd.Foreach(func(name, calls *ast.Term) {
		if text, ok := name.Value.(ast.String); ok && !broken[string(text)] {
			x.nd.Insert(name, calls)
		}
	})
	return false
}

// reach returns what the candidate may read for a path.
func (e *evaluation) reach(path string) eval.Reach {
	if found, ok := e.reaches[path]; ok {
		return found
	}
	found, err := e.candidate.Reach(path)
	if err != nil {
		return eval.Reach{} // evaluating it fails as well
	}
	if len(e.reaches) < maxReaches {
		e.reaches[path] = found
	}
	return found
}

// evaluate asks the candidate, and says why the answer tells nothing.
func (x *decision) evaluate(ctx context.Context) (unfit string) {
	x.reply, unfit = x.ask(ctx, x.input)
	if unfit != "" || x.input != nil || len(x.reach.Inputs) == 0 {
		return unfit
	}
	other, unfit := x.ask(ctx, ast.NullValue)
	if unfit == "" && !(eval.Same(other.value, x.value) && sameError(other.failure, x.failure)) {
		return ReasonNoInput
	}
	return unfit
}

// ask evaluates with an input. Calls that the record holds under arguments of
// another type, which in JSON look alike, are found in a further pass.
func (x *decision) ask(ctx context.Context, input ast.Value) (a reply, unfit string) {
	q := eval.Query{Path: x.record.Path, Input: input, Now: x.at, Strict: x.record.Strict, ND: x.nd, Background: true}
	for range maxPasses {
		q.Seed = x.chance()
		res, err := x.candidate.Eval(ctx, &q)
		if err != nil && eval.IsCancelled(err) && ctx.Err() == nil {
			q.Seed = x.chance() // the processors may have been busy
			res, err = x.candidate.Eval(ctx, &q)
		}
		more, unknown, lost := x.calls(q.ND, res.ND)
		if lost {
			return a, ReasonMasked
		}
		if more == nil {
			return reply{value: res.Value, failure: err, unrecorded: unknown}, ""
		}
		q.ND = more
	}
	return a, ReasonUnreadable
}

// chance is randomness for calls that the record does not hold: it is the same
// whenever the decision is replayed.
func (x *decision) chance() *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256([]byte(x.record.DecisionID)))
}

// calls compares the calls that were made with those that were recorded. more
// is not nil when the record has results for some of those that were made. unknown
// tells that it has none for others, lost that it cannot be known.
func (x *decision) calls(given, made ast.Object) (more ast.Object, unknown, lost bool) {
	if made == nil {
		return nil, false, false
	}
	made.Foreach(func(name, calls *ast.Term) {
		byArguments := calls.Value.(ast.Object)
		known, recorded := callsOf(given, name), callsOf(x.nd, name)
		if known != nil && known.Len() == byArguments.Len() {
			return
		}
		byArguments.Foreach(func(arguments, _ *ast.Term) {
			if known != nil && known.Get(arguments) != nil {
				return
			}
			text, _ := name.Value.(ast.String)
			switch found := alike(recorded, arguments); {
			case found != nil:
				if more == nil {
					more = given.Copy()
				}
				callsOf(more, name).Insert(arguments, found)
			case slices.Contains(x.lost, string(text)) || slices.Contains(x.lost, ""):
				lost = true
			case text != clock:
				unknown = true
			}
		})
	})
	return more, unknown, lost
}

func callsOf(nd ast.Object, name *ast.Term) ast.Object {
	if nd == nil {
		return nil
	}
	if t := nd.Get(name); t != nil {
		calls, _ := t.Value.(ast.Object)
		return calls
	}
	return nil
}

// alike finds the result of a call whose arguments have the same JSON text.
func alike(recorded ast.Object, arguments *ast.Term) (found *ast.Term) {
	if recorded == nil {
		return nil
	}
	want, err := eval.AppendJSON(nil, arguments.Value)
	if err != nil {
		return nil
	}
	recorded.Until(func(k, v *ast.Term) bool {
		if text, err := eval.AppendJSON(nil, k.Value); err == nil && string(text) == string(want) {
			found = v
		}
		return found != nil
	})
	return found
}

func sameError(a, b error) bool { return codeOf(a) == codeOf(b) }

// codeOf is the code that a record has for an error; empty for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	if code := eval.ErrorCode(err); code != "" {
		return code
	}
	return eval.OtherCode
}
