package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/verdict-pdp/verdict/client"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// edgeQuestion is one line of testdata/edges/questions.jsonl. The answers there
// were worked out from the documents of the policies, not by asking.
type edgeQuestion struct {
	Name     string
	Allow    bool
	Question json.RawMessage

	request client.Request
}

// edgeAnswer is what an edge answered.
type edgeAnswer struct {
	allowed bool
	id      string // of the record; empty: there is no decision
	err     error  // why there is none
}

// everyEdge is the ways to ask, over one server.
type everyEdge struct {
	*servertest.Server
	checks authv3.AuthorizationClient
	client *client.Client
}

// TestEdges asks the same questions at every edge: all give the same answer, the
// one that is defined, and leave a record that names the edge.
func TestEdges(t *testing.T) {
	t.Parallel()
	questions := edgeQuestions(t)
	s := servertest.Start(t, servertest.Options{Strict: true, Binary: servertest.Plain(t), Args: []string{
		"--bundle", "../../testdata/edges/bundle", "--set", "server.open=decide", "--set", "limits.evaluation=20s",
		"--set", "extauthz.path=edges/allow", "--set", "forwardauth.path=edges/allow", "--set", "authzen.path=edges/allow",
	}})
	e := newEdges(t, s)
	asked := []struct {
		edge, agent string
		answers     []edgeAnswer
	}{
		{"opa", "Go-http-client/1.1", e.each(questions, e.data)},
		{"opa", "Go-http-client/1.1", e.batch(t, questions)},
		{"authzen", "Go-http-client/1.1", e.each(questions, e.authzen)},
		{"authzen", client.DefaultUserAgent, e.each(questions, e.sdk)},
		{"authzen", client.DefaultUserAgent, e.sdkBatch(t, questions)},
		{"extauthz", "", e.each(questions, e.envoy)},
		{"forwardauth", "Go-http-client/1.1", e.each(questions, e.forward)},
	}
	s.Stop()
	records := map[string]edgeRecord{}
	for _, r := range readLog(t, s.Dir) {
		var seen edgeRecord
		if err := json.Unmarshal(r.raw, &seen); err != nil {
			t.Fatal(err)
		}
		records[seen.ID] = seen
	}
	for _, a := range asked {
		for i, got := range a.answers {
			q, where := questions[i], a.edge+" ("+a.agent+")"
			if got.err != nil || got.allowed != q.Allow {
				t.Errorf("%s: %s: got %t, %v; want %t", where, q.Name, got.allowed, got.err, q.Allow)
			}
			r, ok := records[got.id]
			want := edgeRecord{ID: got.id, Edge: a.edge, Agent: a.agent, Path: "edges/allow", Result: q.Allow}
			if !ok || r != want {
				t.Errorf("%s: %s: the record is %+v, want %+v", where, q.Name, r, want)
			}
			delete(records, got.id) // each answer has a record of its own
		}
	}
	verifyFolder(t, s.Dir)
}

type edgeRecord struct {
	ID     string `json:"decision_id"`
	Edge   string `json:"edge"`
	Agent  string `json:"user_agent"`
	Path   string `json:"path"`
	Result bool   `json:"-"`
}

// UnmarshalJSON reads a record of any type: only a decision has a boolean result
// here.
func (r *edgeRecord) UnmarshalJSON(raw []byte) error {
	type plain edgeRecord
	var whole struct {
		plain
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		return err
	}
	*r = edgeRecord(whole.plain)
	r.Result = string(whole.Result) == "true"
	return nil
}

// TestEdgesDeny asks what is no question: no edge allows it.
func TestEdgesDeny(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--bundle", "../../testdata/edges/bundle", "--set", "limits.evaluation=20s",
		"--set", "extauthz.path=edges/allow", "--set", "forwardauth.path=edges/allow", "--set", "authzen.path=edges/allow",
	}})
	e := newEdges(t, s)
	good := edgeQuestions(t)[0]
	for _, missing := range []string{"subject", "action", "resource", "subject.id", "subject.type", "action.name", "resource.id"} {
		var question map[string]any
		if err := json.Unmarshal(good.Question, &question); err != nil {
			t.Fatal(err)
		}
		if first, second, nested := strings.Cut(missing, "."); nested {
			delete(question[first].(map[string]any), second)
		} else {
			delete(question, missing)
		}
		q := newEdgeQuestion(t, "without "+missing, question)
		for name, ask := range map[string]func(*edgeQuestion) edgeAnswer{
			"data": e.data, "authzen": e.authzen, "client": e.sdk, "extauthz": e.envoy, "forwardauth": e.forward,
		} {
			if got := ask(q); got.allowed {
				t.Errorf("%s: %s is allowed", name, q.Name)
			}
		}
	}
}

func edgeQuestions(t *testing.T) []*edgeQuestion {
	t.Helper()
	file, err := os.Open("../../testdata/edges/questions.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []*edgeQuestion
	for lines := bufio.NewScanner(file); lines.Scan(); {
		q := &edgeQuestion{}
		if err := json.Unmarshal(lines.Bytes(), q); err != nil {
			t.Fatal(err)
		}
		q.decode(t)
		list = append(list, q)
	}
	if len(list) < 200 {
		t.Fatalf("there are %d questions", len(list))
	}
	return list
}

func newEdgeQuestion(t *testing.T, name string, question any) *edgeQuestion {
	t.Helper()
	raw, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	q := &edgeQuestion{Name: name, Question: raw}
	q.decode(t)
	return q
}

func (q *edgeQuestion) decode(t *testing.T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(q.Question))
	d.UseNumber()
	if err := d.Decode(&q.request); err != nil {
		t.Fatalf("%s: %v", q.Name, err)
	}
}

// http is the question as a request that a gateway asks about: see
// testdata/edges/bundle.
func (q *edgeQuestion) http() (method, path, facts, ip string) {
	r := q.request
	known := map[string]any{}
	for name, fact := range r.Context {
		if network, ok := fact.(map[string]any); name == "network" && ok {
			ip, _ = network["ip"].(string)
			continue
		}
		known[name] = fact
	}
	method = map[string]string{"read": "GET", "create": "POST", "update": "PUT", "delete": "DELETE"}[r.Action.Name]
	path = "/" + r.Resource.Type + "/" + r.Resource.ID
	if method == "" {
		method, path = "PATCH", path+"/"+r.Action.Name
	}
	subject := map[string]any{"type": r.Subject.Type, "id": r.Subject.ID, "properties": r.Subject.Properties}
	raw, err := json.Marshal(map[string]any{"subject": subject, "resource": r.Resource.Properties, "context": known})
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return method, path, string(raw), ip
}

func newEdges(t *testing.T, s *servertest.Server) *everyEdge {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := client.New(s.URL, client.Options{Timeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &everyEdge{Server: s, checks: authv3.NewAuthorizationClient(conn), client: c}
}

func (*everyEdge) each(questions []*edgeQuestion, ask func(*edgeQuestion) edgeAnswer) []edgeAnswer {
	answers := make([]edgeAnswer, len(questions))
	var group errgroup.Group
	group.SetLimit(16) // they wait for the disk together
	for i, q := range questions {
		group.Go(func() error {
			answers[i] = ask(q)
			return nil
		})
	}
	_ = group.Wait() // nobody returns an error
	return answers
}

// post asks over HTTP and decodes the answer.
func (e *everyEdge) post(path string, body, out any) error {
	a, err := e.Try(servertest.Request{Path: path, Body: body, Header: map[string]string{"Content-Type": "application/json"}})
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return json.Unmarshal(a.Body, out)
}

func (e *everyEdge) data(q *edgeQuestion) edgeAnswer {
	var out struct {
		ID     string `json:"decision_id"`
		Result *bool  `json:"result"`
	}
	err := e.post("/v1/data/edges/allow", map[string]any{"input": q.Question}, &out)
	if err == nil && out.Result == nil {
		err = errors.New("undefined")
	}
	return edgeAnswer{allowed: err == nil && *out.Result, id: out.ID, err: err}
}

// batch asks in batches that stay within the bound on members.
func (e *everyEdge) batch(t *testing.T, questions []*edgeQuestion) []edgeAnswer {
	const size = 50
	var answers []edgeAnswer
	for first := 0; first < len(questions); first += size {
		part := questions[first:min(first+size, len(questions))]
		inputs := map[string]any{}
		for i, q := range part {
			inputs[strconv.Itoa(i)] = q.Question
		}
		var out struct {
			Responses map[string]struct {
				ID     string `json:"decision_id"`
				Result bool   `json:"result"`
			} `json:"responses"`
		}
		if err := e.post("/v1/batch/data/edges/allow", map[string]any{"inputs": inputs}, &out); err != nil {
			t.Fatal(err)
		}
		for i := range part {
			response := out.Responses[strconv.Itoa(i)]
			answers = append(answers, edgeAnswer{allowed: response.Result, id: response.ID})
		}
	}
	return answers
}

func (e *everyEdge) authzen(q *edgeQuestion) edgeAnswer {
	var out struct {
		Decision bool `json:"decision"`
		Context  struct {
			ID string `json:"decision_id"`
		} `json:"context"`
	}
	err := e.post("/access/v1/evaluation", q.Question, &out)
	return edgeAnswer{allowed: out.Decision, id: out.Context.ID, err: err}
}

func (e *everyEdge) sdk(q *edgeQuestion) edgeAnswer {
	d, err := e.client.Authorize(context.Background(), q.request)
	return edgeAnswer{allowed: d.Allowed, id: d.ID, err: err}
}

func (e *everyEdge) sdkBatch(t *testing.T, questions []*edgeQuestion) []edgeAnswer {
	const size = 50
	var answers []edgeAnswer
	for first := 0; first < len(questions); first += size {
		var part []client.Request
		for _, q := range questions[first:min(first+size, len(questions))] {
			part = append(part, q.request)
		}
		decisions, err := e.client.AuthorizeAll(t.Context(), client.ExecuteAll, part...)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range decisions {
			answers = append(answers, edgeAnswer{allowed: d.Allowed, id: d.ID, err: d.Err})
		}
	}
	return answers
}

func (e *everyEdge) envoy(q *edgeQuestion) edgeAnswer {
	method, path, facts, ip := q.http()
	attributes := &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
		Method: method, Path: path, Host: "shop.example", Headers: map[string]string{"x-facts": facts},
	}}}
	if ip != "" {
		attributes.Source = &authv3.AttributeContext_Peer{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: ip}},
		}}
	}
	res, err := e.checks.Check(context.Background(), &authv3.CheckRequest{Attributes: attributes})
	if err != nil {
		return edgeAnswer{err: err}
	}
	return edgeAnswer{
		allowed: res.GetStatus().GetCode() == int32(codes.OK),
		id:      res.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue(),
	}
}

func (e *everyEdge) forward(q *edgeQuestion) edgeAnswer {
	method, path, facts, ip := q.http()
	if ip == "" {
		ip = "unknown" // as gateways write it
	}
	a, err := e.Try(servertest.Request{Path: "/authz/forward", Header: map[string]string{
		"X-Original-Method": method, "X-Original-URI": path, "X-Forwarded-For": ip, "X-Facts": facts,
	}})
	if err != nil {
		return edgeAnswer{err: err}
	}
	switch a.Status {
	case http.StatusOK, http.StatusForbidden, http.StatusUnauthorized:
		return edgeAnswer{allowed: a.Status == http.StatusOK, id: a.DecisionID()}
	}
	return edgeAnswer{err: fmt.Errorf("status %d: %s", a.Status, a.Body)}
}
