package authzen

import (
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// maxPage is the largest page.limit that makes a difference.
const maxPage = math.MaxInt32

// search answers POST /access/v1/search/... for one kind of entity.
func (s *Server) search(kind search.Kind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ex := s.newExchange()
		defer s.release(ex)
		doc, err := s.document(ex, r, 0)
		if err != nil {
			s.fail(w, err)
			return
		}
		if wrong := s.checkSearch(kind, doc); wrong != "" {
			s.fail(w, badRequest(wrong))
			return
		}
		q := &search.Request{Kind: kind, Most: -1}
		p, err := s.readPage(kind, doc, q)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.question(kind, doc, q)
		s.sign(&q.Query, r)
		answer, err := s.searcher.Search(r.Context(), q)
		if answer != nil && answer.Decision != nil {
			defer answer.Decision.Release()
			w.Header()["X-Decision-Id"] = []string{answer.Decision.ID}
		}
		if err == nil {
			ex.out, err = s.appendResults(ex.out[:0], answer, p)
		}
		if err != nil {
			s.fail(w, err)
			return
		}
		s.reply(w, append(ex.out, '\n'))
	}
}

// checkSearch returns what is wrong with a search: of the entity looked for the
// type is needed, of an action nothing, and the others must be complete.
func (s *Server) checkSearch(kind search.Kind, doc ast.Object) string {
	n := s.names
	subjectID, resourceID := n.id, n.id
	switch kind {
	case search.Subjects:
		subjectID = nil
	case search.Resources:
		resourceID = nil
	}
	if wrong := n.checkEntity(doc, n.subject, subjectID); wrong != "" {
		return wrong
	}
	if kind != search.Actions {
		if wrong := n.checkAction(doc); wrong != "" {
			return wrong
		}
	}
	if wrong := n.checkEntity(doc, n.resource, resourceID); wrong != "" {
		return wrong
	}
	return n.checkContext(doc)
}

// question makes of a search what each candidate is asked with: without the
// page, and of the entity looked for only what holds for every candidate.
func (s *Server) question(kind search.Kind, doc ast.Object, q *search.Request) {
	n := s.names
	typed := n.resource
	switch kind {
	case search.Subjects:
		typed = n.subject
	case search.Actions:
		q.Question = s.without(doc, n.page, n.action)
	}
	entity, _ := member(doc, typed).(ast.Object) // checkSearch has seen it
	q.Type = text(entity.Get(n.kind))
	if kind == search.Actions {
		return
	}
	q.Question = s.without(doc, n.page, typed)
	pattern := ast.NewObject(ast.Item(n.kind, entity.Get(n.kind)))
	if properties := entity.Get(n.properties); properties != nil {
		pattern.Insert(n.properties, properties)
	}
	q.Question.Insert(typed, ast.NewTerm(pattern))
}

// page is what a search asks to have its answer in parts by.
type page struct {
	given bool
	first bool    // there was no token
	bound binding // what a token is good for
}

// readPage reads the page of a search. Its token must be one that was given for
// the same search.
func (s *Server) readPage(kind search.Kind, doc ast.Object, q *search.Request) (p page, err error) {
	v := member(doc, s.names.page)
	if v == nil {
		return page{}, nil
	}
	obj, ok := v.(ast.Object)
	if !ok {
		return p, badRequest("page must be an object")
	}
	p.given, q.Paged = true, true
	if v := member(obj, s.names.properties); v != nil {
		if _, ok := v.(ast.Object); !ok {
			return p, badRequest("page.properties must be an object")
		}
	}
	if v := member(obj, s.names.limit); v != nil {
		if q.Most, ok = natural(v); !ok {
			return p, badRequest("page.limit must be a non-negative integer")
		}
	}
	token := ""
	if v := member(obj, s.names.token); v != nil {
		t, ok := v.(ast.String)
		if !ok {
			return p, badRequest("page.token must be a string")
		}
		token = string(t)
	}
	if p.bound, err = s.bind(kind, doc, obj); err != nil {
		return p, badRequest(err.Error())
	}
	if p.first = token == ""; !p.first {
		if q.After, ok = p.bound.open(token); !ok {
			return p, badRequest("page.token was not given for this search: all else must be as in the request before")
		}
	}
	return p, nil
}

// natural reads a number that is 0, 1, 2 and so on, however it is written. What
// is more than any answer can have is as good as no bound.
func natural(v ast.Value) (int, bool) {
	number, ok := v.(ast.Number)
	if !ok {
		return 0, false
	}
	if n, ok := number.Int(); ok {
		return min(n, maxPage), n >= 0
	}
	f, ok := number.Float64()
	if !ok || f < 0 || f != math.Trunc(f) {
		return 0, false
	}
	return int(min(f, maxPage)), true
}

// appendResults writes the answer to a search; page comes first.
func (s *Server) appendResults(dst []byte, a *search.Answer, p page) (_ []byte, err error) {
	dst = append(dst, '{')
	if p.given {
		dst = append(dst, `"page":{"next_token":"`...)
		if a.More {
			dst = append(dst, p.bound.seal(a.Next)...)
		}
		dst = append(dst, `","count":`...)
		dst = strconv.AppendInt(dst, int64(len(a.Matches)), 10)
		if p.first && !a.More {
			dst = append(dst, `,"total":`...)
			dst = strconv.AppendInt(dst, int64(len(a.Matches)), 10)
		}
		dst = append(dst, '}', ',')
	}
	dst = append(dst, `"context":{"candidates":`...)
	dst = strconv.AppendInt(dst, int64(a.Candidates), 10)
	dst = appendCounts(append(dst, `,"denied":{`...), a.Denied)
	dst = s.appendRecord(append(dst, '}', ','), a.Decision)
	dst = append(dst, `},"results":[`...)
	for i, m := range a.Matches {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = eval.AppendJSON(dst, m.Entity); err != nil {
			return dst, err
		}
		if m.Obligations == nil {
			continue
		}
		dst = append(dst[:len(dst)-1], `,"obligations":`...)
		if dst, err = eval.AppendJSON(dst, m.Obligations); err != nil {
			return dst, err
		}
		dst = append(dst, '}')
	}
	return append(dst, ']', '}'), nil
}

// appendCounts writes the members of an object of numbers, in order.
func appendCounts(dst []byte, counts map[string]int) []byte {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quote(name)...), ':')
		dst = strconv.AppendInt(dst, int64(counts[name]), 10)
	}
	return dst
}
