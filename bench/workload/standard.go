package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"golang.org/x/sync/errgroup"
)

const (
	// standardBatch is how many questions are made at a time, at most, before
	// their answers are looked up.
	standardBatch = 2_000
	// standardTries is how many questions are tried for each that is wanted.
	standardTries = 10
)

// Standard returns the third set: n AuthZEN evaluation objects with all facts
// for data.verdict.authz.decision, half allowed. The policies are those in the
// folder; the answers are computed with OPA's library on the same files.
func Standard(ctx context.Context, folder string, n int) (*Set, error) {
	set := &Set{
		Name: "standard", Title: fmt.Sprintf("%d AuthZEN evaluations with all facts, standard policies", n),
		Path: "verdict/authz/decision", Standard: true, FreshIDs: true,
	}
	var err error
	if set.Files, err = policyFiles(folder); err != nil {
		return nil, err
	}
	answer, err := answers(ctx, set)
	if err != nil {
		return nil, err
	}
	rnd := rand.New(rand.NewSource(RequestSeed))
	ids := newIDs(rnd)
	quota := map[bool]int{true: n / 2, false: n - n/2}
	for tried := 0; len(set.Requests) < n; {
		if tried > standardTries*n {
			return nil, fmt.Errorf("make the standard set: of %d questions too few are allowed or too few denied", tried)
		}
		batch := make([]Request, min(standardBatch, n))
		allowed := make([]bool, len(batch))
		tried += len(batch)
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.NumCPU())
		for i := range batch {
			batch[i] = standardRequest(rnd, ids.next())
			// Waited for below.
			group.Go(func() (err error) {
				batch[i].Want, allowed[i], err = answer(gctx, batch[i].Body)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		for i, r := range batch {
			if quota[allowed[i]] > 0 {
				quota[allowed[i]]--
				set.Requests = append(set.Requests, r)
				set.FreshIDs = set.FreshIDs && !bytes.Contains(r.Want, r.Body[r.ID:r.ID+idDigits])
			}
		}
	}
	return set, nil
}

// policyFiles reads the Rego and data of the standard policies, tests left out.
func policyFiles(folder string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	root := filepath.Join(folder, "verdict")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isPolicy(d.Name()) {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(relative)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the standard policies: %w", err)
	}
	return files, nil
}

func isPolicy(name string) bool {
	return name == "data.json" || strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego")
}

// answers returns a function that evaluates a request with OPA's library. It
// may be called by several goroutines.
func answers(ctx context.Context, set *Set) (func(context.Context, []byte) ([]byte, bool, error), error) {
	dir, err := os.MkdirTemp("", "bench-policies-")
	if err != nil {
		return nil, fmt.Errorf("prepare the standard policies: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := set.WriteBundle(dir); err != nil {
		return nil, err
	}
	query, err := rego.New(rego.LoadBundle(dir), rego.Query("data.verdict.authz.decision"), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare the standard policies: %w", err)
	}
	return func(ctx context.Context, body []byte) ([]byte, bool, error) {
		value, err := ast.ValueFromReader(bytes.NewReader(body))
		if err != nil {
			return nil, false, fmt.Errorf("read a request: %w", err)
		}
		input, err := value.Find(ast.Ref{ast.StringTerm("input")})
		if err != nil {
			return nil, false, fmt.Errorf("read a request: %w", err)
		}
		results, err := query.Eval(ctx, rego.EvalParsedInput(input))
		if err != nil {
			return nil, false, fmt.Errorf("evaluate a request: %w", err)
		}
		if len(results) != 1 {
			return nil, false, fmt.Errorf("evaluate a request: %d results for %s", len(results), body)
		}
		decision, ok := results[0].Expressions[0].Value.(map[string]any)
		if !ok {
			return nil, false, fmt.Errorf("evaluate a request: the decision is not an object")
		}
		want, err := json.Marshal(decision)
		return want, decision["allow"] == true, err
	}, nil
}

// pick returns one of its arguments.
func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.Intn(len(from))] }

// standardRequest returns a question with every fact that the standard
// policies read. Most facts are good; one in three questions has a bad one.
func standardRequest(rnd *rand.Rand, id int) Request {
	asked := time.Date(2026, time.November, 23, 9+rnd.Intn(8), rnd.Intn(60), rnd.Intn(60), 0, time.UTC)
	ago := func(most int) string {
		return asked.Add(-time.Duration(1+rnd.Intn(most)) * time.Second).Format(time.RFC3339)
	}
	roles := []string{pick(rnd, "super_admin", "super_admin", "super_admin", "org_admin", "tenant_admin", "tenant_admin", "customer_service", "network_tech", "billing_clerk", "auditor")}
	kind, action, _ := strings.Cut(pick(rnd,
		"customer.read", "customer.update", "customer.create", "billing.read", "billing.update", "billing.export",
		"network.read", "network.update", "device.read", "device.update", "device.manage", "audit.read", "user.read", "role.update", "config.read",
	), ".")
	subject := fmt.Sprintf("user%04d", rnd.Intn(usersSmall))
	tenant := fmt.Sprintf("tenant%02d", rnd.Intn(50))
	session := map[string]any{
		"id": fmt.Sprintf("session-%08d", rnd.Intn(100_000_000)), "subject": subject, "status": "active", "mfa": true,
		"created_at": ago(3600), "last_activity_at": ago(60), "last_verified_at": ago(60),
		"anomaly": 0.05, "auth_failures": 0, "incidents": []string{},
	}
	device := map[string]any{"id": fmt.Sprintf("device-%04d", rnd.Intn(usersSmall)), "registered": true, "fingerprint_match": true, "compliant": true, "reputation": 0.9}
	location := map[string]any{"country": pick(rnd, "SE", "DE", "FR", "NL"), "verified": true}
	network := map[string]any{"ip": fmt.Sprintf("10.%d.%d.%d", rnd.Intn(256), rnd.Intn(256), 1+rnd.Intn(254))}
	owner := tenant
	switch rnd.Intn(18) {
	case 0:
		owner = "tenant99"
	case 1:
		session["mfa"] = false
	case 2:
		device["compliant"] = false
	case 3:
		session["last_verified_at"] = asked.Add(-time.Hour).Format(time.RFC3339)
	case 4:
		session["status"] = pick(rnd, "expired", "revoked", "suspended")
	case 5:
		network["ip"] = fmt.Sprintf("203.0.113.%d", 1+rnd.Intn(254))
	}
	evaluation := encode(map[string]any{
		"subject":  map[string]any{"type": "user", "id": subject, "properties": map[string]any{"roles": roles, "tenant": tenant, "organization": "isp"}},
		"action":   map[string]any{"name": action},
		"resource": map[string]any{"type": kind, "id": fmt.Sprintf("res-%0*d", idDigits, id), "properties": map[string]any{"tenant": owner}},
		"context": map[string]any{
			"time": asked.Format(time.RFC3339), "policy": pick(rnd, "user", "user_operations", "api_access"),
			"session": session, "device": device, "location": location, "network": network,
		},
	})
	body := fmt.Appendf(nil, `{"input":%s}`, evaluation)
	return Request{Body: body, ID: bytes.Index(body, []byte(`"id":"res-`)) + len(`"id":"res-`)}
}
