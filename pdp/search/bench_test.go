package search_test

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// benchPolicy is the policy of bench/workload, reading AuthZEN's names.
const benchPolicy = `package authz

default allow := false

allow if {
	within_hours
	not data.rbac.blocked[input.context.country]
	some role in roles
	input.action.name in data.rbac.grants[role][input.resource.type]
}

within_hours if {
	input.context.hour >= data.rbac.hours.from
	input.context.hour < data.rbac.hours.to
	input.context.weekday >= 1
	input.context.weekday <= 5
}

roles contains role if some role in data.rbac.users[input.subject.id]

roles contains parent if {
	some role in data.rbac.users[input.subject.id]
	some parent in data.rbac.inherits[role]
}
`

// benchData is an organisation of n users and as many resources of one type.
func benchData(n int) string {
	rnd := rand.New(rand.NewSource(42))
	var b strings.Builder
	b.WriteString(`{"rbac":{"hours":{"from":9,"to":17},"blocked":{"XX":true},"inherits":{"role00":["role05"]},"grants":{`)
	for role := range 10 {
		if role > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"role%02d":{`, role)
		for i := range 20 {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"type%02d":["read","%s"]`, (role*3+i*2)%40, []string{"create", "update", "delete", "approve"}[rnd.Intn(4)])
		}
		b.WriteByte('}')
	}
	b.WriteString(`},"users":{`)
	var entities strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
			entities.WriteByte(',')
		}
		fmt.Fprintf(&b, `"user%05d":["role%02d","role%02d"]`, i, rnd.Intn(10), rnd.Intn(10))
		fmt.Fprintf(&entities, `"%05d":{"owner":"user%05d"}`, i, i)
	}
	list := entities.String()
	fmt.Fprintf(&b, `}},"verdict":{"entities":{"user":{%s},"type27":{%s}}}}`, strings.ReplaceAll(list, `"0`, `"user0`), list)
	return b.String()
}

// nowhere takes records and keeps none.
type nowhere struct{}

func (nowhere) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

func (nowhere) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return &audit.Ticket{}, nil
}

// BenchmarkSearch decides 10,000 candidates. A fresh context each time keeps
// the memo of earlier searches out of it.
func BenchmarkSearch(b *testing.B) {
	const candidates = 10_000
	engine := newEngine(b, eval.Options{}, benchData(candidates), benchPolicy)
	s := search.New(pdp.New(engine, nowhere{}, pdp.Options{}), search.Options{Path: "authz/allow"})
	for _, bm := range []struct {
		name     string
		kind     search.Kind
		typ      string
		question string
	}{
		{"subjects", search.Subjects, "user", `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"type27","id":"1"},"context":{"hour":%d.%d,"weekday":3,"country":"SE"}}`},
		{"resources", search.Resources, "type27", `{"subject":{"type":"user","id":"user00007"},"action":{"name":"read"},"resource":{"type":"type27"},"context":{"hour":%d.%d,"weekday":3,"country":"SE"}}`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			found := 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				question := parse(b, fmt.Sprintf(bm.question, 9+i%8, i)).(ast.Object)
				a, err := s.Search(b.Context(), &search.Request{Kind: bm.kind, Type: bm.typ, Question: question, Most: -1})
				if err != nil {
					b.Fatal(err)
				}
				if a.Candidates != candidates {
					b.Fatalf("%d candidates", a.Candidates)
				}
				found += len(a.Matches)
				a.Decision.Release()
			}
			b.ReportMetric(float64(found)/float64(b.N), "results")
		})
	}
}
