package search

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const (
	// stride is how many candidates a goroutine takes at a time.
	stride = 16
	// firstBlock is how many candidates a part of an answer decides before it
	// looks whether it is full; each further block is twice as long.
	firstBlock = 256
	// maxReasons bounds the reasons that are counted.
	maxReasons = 64
)

// run is one search.
type run struct {
	*Searcher
	request  *Request
	snapshot *eval.Snapshot
	now      time.Time

	others     [][2]*ast.Term // of the question, beside the entity looked for
	kind       *ast.Term      // type of the entity; nil for actions
	properties ast.Object     // that the question gives to all; nil: none
}

// outcome is what became of one candidate.
type outcome struct {
	decided     bool
	granted     bool
	err         error
	entity      ast.Object
	obligations ast.Value
	result      ast.Object // of a denial, for its reasons
	failed      bool       // the standard policies' own denial after an error
}

// find decides the candidates of a search until it knows its answer.
func (s *Searcher) find(ctx context.Context, r *run) (*Answer, error) {
	candidates := "verdict/entities"
	if r.request.Kind == Actions {
		candidates = "verdict/actions"
	}
	for _, path := range []string{s.options.Path, candidates} {
		if err := r.snapshot.Stale(path, r.now); err != nil {
			return nil, err
		}
	}
	p, err := r.pool(ctx)
	if err != nil {
		return nil, r.orTimeout(ctx, err, 0, 0)
	}
	total, end := p.size(), p.size()
	if end > s.options.Limit {
		if !r.request.Paged {
			return nil, &LimitError{Candidates: total, Limit: s.options.Limit}
		}
		end = s.options.Limit
	}
	r.prepare()
	a := &Answer{Next: r.request.After, Denied: map[string]int{}}
	block := end
	if r.request.Paged && r.request.Most >= 0 {
		block = max(firstBlock, r.request.Most)
	}
	for from := 0; from < end; block *= 2 {
		list, err := p.part(from, min(end, from+block))
		if err != nil {
			return nil, err
		}
		done, full, err := r.gather(a, list, r.decideAll(ctx, list))
		switch {
		case err != nil:
			return nil, err
		case full:
			return a, nil
		case done < len(list) && (!r.request.Paged || from+done == 0):
			return nil, &TimeoutError{Timeout: s.options.Timeout, Decided: from + done, Candidates: total}
		case done < len(list):
			a.More = true
			return a, nil
		}
		from += len(list)
	}
	a.More = end < total
	if !a.More {
		a.Next = nil
	}
	return a, nil
}

// orTimeout is err, unless the search's own time is over.
func (r *run) orTimeout(ctx context.Context, err error, decided, candidates int) error {
	if ctx.Err() != nil {
		return &TimeoutError{Timeout: r.options.Timeout, Decided: decided, Candidates: candidates}
	}
	return err
}

// prepare takes the question apart.
func (r *run) prepare() {
	sought := r.names.members[r.request.Kind]
	r.request.Question.Foreach(func(k, v *ast.Term) {
		if !k.Equal(sought) {
			r.others = append(r.others, [2]*ast.Term{k, v})
		}
	})
	if r.request.Kind == Actions {
		return
	}
	r.kind = ast.StringTerm(r.request.Type)
	if t := r.request.Question.Get(sought); t != nil {
		if entity, ok := t.Value.(ast.Object); ok {
			if p := entity.Get(r.names.properties); p != nil {
				r.properties, _ = p.Value.(ast.Object)
			}
		}
	}
}

// gather takes the outcomes of a block into the answer, in their order: done
// are decided. The answer is full when it has all it may have and there is more.
func (r *run) gather(a *Answer, list []candidate, outcomes []outcome) (done int, full bool, err error) {
	for i := range outcomes {
		o := &outcomes[i]
		switch {
		case !o.decided:
			return i, false, nil
		case o.err != nil:
			return i, false, &CandidateError{Key: list[i].key, Err: o.err}
		case o.granted:
			if r.request.Paged && r.request.Most >= 0 && len(a.Matches) == r.request.Most {
				a.More = true
				return i, true, nil
			}
			a.Matches = append(a.Matches, Match{Key: list[i].key, Entity: o.entity, Obligations: o.obligations})
		default:
			r.count(a, o)
		}
		a.Candidates++
		a.Next = &list[i].key
	}
	return len(outcomes), false, nil
}

// count notes why a candidate was denied.
func (r *run) count(a *Answer, o *outcome) {
	note := func(code string) {
		if _, known := a.Denied[code]; known || len(a.Denied) < maxReasons {
			a.Denied[code]++
		}
	}
	if o.failed {
		note("policy_error")
		return
	}
	if o.result == nil {
		return
	}
	t := o.result.Get(r.names.reasons)
	if t == nil {
		return
	}
	reasons, ok := t.Value.(*ast.Array)
	if !ok {
		return
	}
	reasons.Foreach(func(t *ast.Term) {
		if reason, ok := t.Value.(ast.Object); ok {
			if code := reason.Get(r.names.code); code != nil {
				if text, ok := code.Value.(ast.String); ok {
					note(string(text))
				}
			}
		}
	})
}

// decideAll decides candidates on this goroutine and on those that are free.
func (r *run) decideAll(ctx context.Context, list []candidate) []outcome {
	outcomes := make([]outcome, len(list))
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		for !failed.Load() {
			from := int(next.Add(stride)) - stride
			for i := from; i < min(from+stride, len(list)); i++ {
				if ctx.Err() != nil {
					return
				}
				outcomes[i] = r.decide(ctx, &list[i])
				if outcomes[i].err != nil {
					failed.Store(true) // those before it are in somebody's hands already
				}
			}
			if from >= len(list) {
				return
			}
		}
	}
	var helping sync.WaitGroup
	for range (len(list) - 1) / stride {
		select {
		case r.helpers <- struct{}{}:
			helping.Go(func() { // ends with the list, waited for below
				defer func() { <-r.helpers }()
				work()
			})
			continue
		default:
		}
		break
	}
	work()
	helping.Wait()
	return outcomes
}

// decide asks about one candidate.
func (r *run) decide(ctx context.Context, c *candidate) (o outcome) {
	o.entity = r.entity(c)
	members := make([][2]*ast.Term, len(r.others)+1)
	copy(members, r.others)
	members[len(r.others)] = [2]*ast.Term{r.names.members[r.request.Kind], ast.NewTerm(o.entity)}
	res, err := r.snapshot.Eval(ctx, &eval.Query{Path: r.options.Path, Input: ast.NewObject(members...), Now: r.now, Strict: r.request.Query.Strict})
	switch {
	case err != nil && ctx.Err() != nil:
		return outcome{} // stopped in the middle
	case err != nil && r.options.Path == pdp.StandardPath:
		return outcome{decided: true, failed: true} // as Decide answers
	case err != nil:
		return outcome{decided: true, err: err}
	case res.Value == nil:
		return outcome{decided: true}
	}
	granted, ok := r.pdp.Granted(res.Value)
	if !ok {
		return outcome{decided: true, err: ErrResult}
	}
	o.decided, o.granted = true, granted
	obj, _ := res.Value.(ast.Object)
	if !granted {
		return outcome{decided: true, result: obj}
	}
	if obj != nil {
		if t := obj.Get(r.names.obligations); t != nil {
			if list, ok := t.Value.(*ast.Array); ok && list.Len() > 0 {
				o.obligations = list
			}
		}
	}
	return o
}

// entity is a candidate as it stands in the input.
func (r *run) entity(c *candidate) ast.Object {
	properties := c.properties
	if r.properties != nil {
		if properties == nil {
			properties = ast.NewTerm(r.properties)
		} else {
			properties = ast.NewTerm(laidOver(r.properties, properties.Value.(ast.Object)))
		}
	}
	members := make([][2]*ast.Term, 0, 3)
	if r.kind != nil {
		members = append(members, [2]*ast.Term{r.names.kind, r.kind}, [2]*ast.Term{r.names.id, c.name})
	} else {
		members = append(members, [2]*ast.Term{r.names.name, c.name})
	}
	if properties != nil {
		members = append(members, [2]*ast.Term{r.names.properties, properties})
	}
	return ast.NewObject(members...)
}

// laidOver is what the data says, and what the question says where the data says
// nothing.
func laidOver(question, data ast.Object) ast.Object {
	merged, ok := question.MergeWith(data, func(_, known *ast.Term) (*ast.Term, bool) { return known, false })
	if !ok {
		return data
	}
	return merged
}
