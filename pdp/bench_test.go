package pdp_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// nowhere takes records and keeps none, so that a benchmark sees the decision
// alone.
type nowhere struct{}

func (nowhere) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

func (nowhere) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return &audit.Ticket{}, nil
}

func BenchmarkDecide(b *testing.B) {
	const rbac = `package authz

default allow := false

allow if {
	input.environment.hour >= 9
	input.environment.hour < 17
	not blocked
	some role in data.users[input.subject.id]
	input.action in data.grants[role][input.resource.type]
}

blocked if data.blocked[input.environment.country]
`
	engine, err := eval.New(eval.Options{})
	if err != nil {
		b.Fatal(err)
	}
	m, err := eval.ParseModule("authz.rego", []byte(rbac))
	if err != nil {
		b.Fatal(err)
	}
	data := parse(b, `{"users": {"user0886": ["r1", "r2"]}, "grants": {"r2": {"type27": ["delete", "read"]}}, "blocked": {"XX": true}}`)
	_, err = engine.Write(func(d *eval.Draft) error {
		if err := d.Patch(storage.AddOp, nil, data); err != nil {
			return err
		}
		return d.PutModule(m)
	})
	if err != nil {
		b.Fatal(err)
	}
	keys := mask.NewKeys([]string{"authorization", "password", "token", "secret", "cookie"})
	p := pdp.New(engine, nowhere{}, pdp.Options{MaskKeys: keys})
	const format = `{"subject": {"id": "user0886"}, "action": "delete", "resource": {"type": "type27", "id": "res-%08d"}, "environment": {"hour": %d, "weekday": 3, "country": "%s"}}`
	for name, input := range map[string]func(i int) string{
		"remembered": func(i int) string { return fmt.Sprintf(format, i, 13, "SE") },
		"evaluated":  func(i int) string { return fmt.Sprintf(format, i, 9+i%8, fmt.Sprint("C", i)) },
	} {
		b.Run(name, func(b *testing.B) {
			texts := make([][]byte, 4096)
			for i := range texts {
				texts[i] = []byte(input(i))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				v, _, err := eval.ParseInput(texts[i%len(texts)], eval.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				d, err := p.Decide(b.Context(), &pdp.Query{Edge: "opa", Path: "authz/allow", Input: v})
				if err != nil {
					b.Fatal(err)
				}
				d.Release()
				i++
			}
		})
	}
}
