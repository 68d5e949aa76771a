package replay

import (
	"cmp"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Bounds of the groups of one kind.
const (
	maxGroups      = 1000 // that are told apart
	maxGroupsShown = 50
	noGroup        = "(none)"
	otherGroup     = "(other)"
)

// counter makes the report. Blocks come to it in any order and are counted in
// that of their numbers. It belongs to one goroutine.
type counter struct {
	request *Request
	report  *Report
	now     func() time.Time
	list    int // flips to list

	total, read uint64
	told        time.Time // when progress was told last

	path, role, resource, reason groups
}

func newCounter(candidate *eval.Snapshot, q *Request, now func() time.Time) *counter {
	r := &Report{Limit: q.Limit, Paths: q.Paths, Bundles: candidate.RevisionsJSON(), Flips: Flips{List: []Flip{}}}
	if !q.From.IsZero() {
		r.From = &q.From
	}
	if !q.To.IsZero() {
		r.To = &q.To
	}
	return &counter{
		request: q, report: r, now: now, list: max(q.List, 0),
		path: groups{}, role: groups{}, resource: groups{}, reason: groups{},
	}
}

// count takes blocks until there are no more. flight holds one value for each
// block that is on its way.
func (c *counter) count(done <-chan *block, flight <-chan struct{}) error {
	waiting := map[int]*block{}
	next := 0
	for b := range done {
		waiting[b.number] = b
		for b := waiting[next]; b != nil; b = waiting[next] {
			delete(waiting, next)
			<-flight
			c.add(b)
			next++
		}
	}
	return nil
}

func (c *counter) add(b *block) {
	c.read += b.read
	for i := range slices.Backward(b.outcomes) {
		c.one(&b.outcomes[i])
	}
	if c.request.Progress == nil {
		return
	}
	if now := c.now(); now.Sub(c.told) >= progressEvery {
		c.told = now
		c.request.Progress(c.progress())
	}
}

func (c *counter) progress() Progress {
	return Progress{Read: c.read, Total: c.total, Decisions: c.report.Decisions, Flips: c.report.Flips.Count}
}

func (c *counter) one(o *outcome) {
	r := c.report
	r.Decisions++
	place := &Place{Seq: o.seq, Time: o.time}
	if r.Last == nil {
		r.Last = place
	}
	r.First = place
	switch {
	case o.other:
		r.OtherPaths++
	case o.skip != "":
		r.Skipped.add(o.skip)
	case o.unfit != "":
		r.NotReplayable.add(o.unfit)
	default:
		r.Replayed++
		if o.unrecorded {
			r.Unrecorded++
		}
		if o.flip != nil {
			c.flip(o.flip)
		}
	}
}

func (c *counter) flip(f *Flip) {
	flips := &c.report.Flips
	if flips.Kinds == nil {
		flips.Kinds = map[Kind]uint64{}
	}
	flips.Count++
	flips.Kinds[f.Kind]++
	c.path.add(f.Path, f.Kind)
	c.role.addAll(f.roles, f.Kind)
	c.resource.add(cmp.Or(f.resource, noGroup), f.Kind)
	c.reason.addAll(f.reasons, f.Kind)
	if len(flips.List) < c.list {
		flips.List = append(flips.List, *f)
	} else {
		flips.More = true
	}
	if c.request.OnFlip != nil {
		c.request.OnFlip(f)
	}
}

// finish completes the report.
func (c *counter) finish() *Report {
	c.report.Limited = c.report.Decisions >= uint64(c.report.Limit)
	c.report.Groups = Groups{Path: c.path.top(), Role: c.role.top(), ResourceType: c.resource.top(), Reason: c.reason.top()}
	if c.request.Progress != nil {
		c.request.Progress(c.progress())
	}
	return c.report
}

// groups are counts by value and kind.
type groups map[string]*Group

func (g groups) add(value string, kind Kind) {
	found := g[value]
	if found == nil {
		if len(g) >= maxGroups {
			value = otherGroup
			found = g[value]
		}
		if found == nil {
			found = &Group{Value: value, Kinds: map[Kind]uint64{}}
			g[value] = found
		}
	}
	found.Count++
	found.Kinds[kind]++
}

func (g groups) addAll(values []string, kind Kind) {
	if len(values) == 0 {
		g.add(noGroup, kind)
	}
	for _, value := range values {
		g.add(value, kind)
	}
}

// top gives the most frequent groups; what is behind them is one group.
func (g groups) top() []Group {
	list := make([]Group, 0, len(g))
	for _, group := range g {
		list = append(list, *group)
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if len(list) <= maxGroupsShown {
		return list
	}
	rest := Group{Value: otherGroup, Kinds: map[Kind]uint64{}}
	kept := make([]Group, 0, maxGroupsShown+1)
	for _, group := range list {
		if len(kept) < maxGroupsShown && group.Value != otherGroup {
			kept = append(kept, group)
			continue
		}
		rest.Count += group.Count
		for kind, n := range group.Kinds {
			rest.Kinds[kind] += n
		}
	}
	return append(kept, rest)
}
