package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage/state"
)

// recorder collects records, and fails when it is told to.
type recorder struct {
	mu      sync.Mutex
	records []audit.Record
	err     error
}

// Append implements bundles.Recorder.
func (r *recorder) Append(_ context.Context, rec *audit.Record) (audit.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return audit.Receipt{}, r.err
	}
	r.records = append(r.records, *rec)
	return audit.Receipt{}, nil
}

// events lists the events of the records so far.
func (r *recorder) events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, rec := range r.records {
		list = append(list, rec.Event)
	}
	return list
}

func (r *recorder) last(t testing.TB) audit.Record {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) == 0 {
		t.Fatal("nothing was recorded")
	}
	return r.records[len(r.records)-1]
}

// bench is a service with all that it needs.
type bench struct {
	*bundles.Service
	testing.TB
	dir      string
	engine   *eval.Engine
	store    *state.Store
	recorder *recorder
	now      time.Time
}

// open opens a service over a folder, as a start of the server does.
func open(t testing.TB, dir string, change func(*bundles.Options)) *bench {
	t.Helper()
	b := &bench{TB: t, dir: dir, recorder: &recorder{}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	var err error
	if b.engine, err = eval.New(eval.Options{Timeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.engine.Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{base(t)}) }); err != nil {
		t.Fatal(err)
	}
	if b.store, err = state.Open(filepath.Join(dir, "state"), state.Options{Command: "test", WatchEvents: 256}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	bucket, err := b.store.Bucket(bundles.BucketName)
	if err != nil {
		t.Fatal(err)
	}
	o := bundles.Options{
		Dir: filepath.Join(dir, "bundles"), Engine: b.engine, Bucket: bucket, Recorder: b.recorder,
		Verifier: bundles.Unsigned{Allow: true}, Now: func() time.Time { return b.now },
	}
	if change != nil {
		change(&o)
	}
	if b.Service, err = bundles.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func newBench(t testing.TB) *bench { return open(t, t.TempDir(), nil) }

func (b *bench) close() {
	if err := b.store.Close(); err != nil {
		b.Error(err)
	}
}

// base stands in for the standard policies.
func base(t testing.TB) *eval.Bundle {
	t.Helper()
	m, err := eval.ParseModule("standard/rbac.rego", []byte("package verdict.rbac\n\npermitted if data.verdict.rbac.roles.admin"))
	if err != nil {
		t.Fatal(err)
	}
	data := ast.MustParseTerm(`{"verdict": {"rbac": {"roles": {"admin": true}}}}`).Value.(ast.Object)
	return &eval.Bundle{Name: "standard", Revision: "s1", Base: true, Modules: []*eval.Module{m}, Data: data}
}

// entry is one entry of a tarball.
type entry struct {
	name, text string
	kind       byte // of tar; 0: a regular file
	link       string
}

// pack makes a tarball.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Typeflag: e.kind, Linkname: e.link}
		if e.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": "a commit"}}
		}
		if e.kind == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(tw, e.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// files packs a bundle by file name.
func files(t testing.TB, c content) []byte {
	t.Helper()
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(c)) {
		entries = append(entries, entry{name: name, text: c[name]})
	}
	return pack(t, entries...)
}

// app is a small bundle: its rule says its revision.
func app(revision string) content {
	return content{
		".manifest":     fmt.Sprintf(`{"revision": %q, "roots": ["app"]}`, revision),
		"app.rego":      fmt.Sprintf("package app\n\nrevision := %q\n", revision),
		"app/data.json": fmt.Sprintf(`{"said": %q}`, revision),
	}
}

func (b *bench) push(name string, packed []byte, change ...func(*bundles.PushRequest)) (*bundles.PushResult, error) {
	p := bundles.PushRequest{Name: name, Body: bytes.NewReader(packed), By: bundles.Origin{Caller: "ci", ClientIP: "192.0.2.1"}}
	for _, fn := range change {
		fn(&p)
	}
	return b.Push(b.Context(), p)
}

func (b *bench) mustPush(name string, packed []byte, change ...func(*bundles.PushRequest)) *bundles.PushResult {
	b.Helper()
	result, err := b.push(name, packed, change...)
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// says asks the snapshot that answers for a value.
func (b *bench) says(path ...string) string {
	b.Helper()
	snapshot := b.engine.Active()
	if v, err := snapshot.Read(path); err == nil {
		text, err := eval.AppendJSON(nil, v)
		if err != nil {
			b.Fatal(err)
		}
		return string(text)
	}
	return ""
}

// kept lists the files of the folder of archives.
func (b *bench) kept() []string {
	b.Helper()
	var list []string
	err := filepath.Walk(filepath.Join(b.dir, "bundles"), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return list
}

// wantRefusal wants an *Error with a code, a gate and a part of its message.
func wantRefusal(t testing.TB, err error, code bundles.Code, gate, part string) *bundles.Error {
	t.Helper()
	refused, ok := errors.AsType[*bundles.Error](err)
	if !ok || refused.Code != code || refused.Gate != gate || !strings.Contains(refused.Message, part) {
		t.Fatalf("got %v (%+v), want code %s of gate %q with %q in it", err, refused, code, gate, part)
	}
	return refused
}

func TestPush(t *testing.T) {
	b := newBench(t)
	one := b.mustPush("app", files(t, app("r1")))
	if one.Status != "active" || one.Revision != "r1" || len(one.Digest) != 64 || one.Files != 3 || one.Changes.Rules.Count != 1 || one.Changes.Data.Count != 1 {
		t.Errorf("first push: %+v", one)
	}
	var names []string
	for _, g := range one.Gates {
		names = append(names, g.Name)
		if g.Result != bundles.Passed && g.Name != bundles.GateCoverage {
			t.Errorf("gate %+v", g)
		}
	}
	if want := []string{"archive", "signature", "manifest", "history", "roots", "compile", "capabilities", "tests", "coverage"}; !slices.Equal(names, want) {
		t.Errorf("gates %v", names)
	}
	if b.says("app", "said") != `"r1"` {
		t.Error("r1 does not answer")
	}
	two := b.mustPush("app", files(t, app("r2")))
	if two.Previous != "r1" || !slices.Equal(two.Changes.Rules.Changed, []string{"data.app.revision"}) || !slices.Equal(two.Changes.Data.Changed, []string{"/app/said"}) {
		t.Errorf("second push: %+v %+v", two, two.Changes)
	}
	again := b.mustPush("app", files(t, app("r2")))
	if again.Status != "unchanged" || !again.Active {
		t.Errorf("the same again: %+v", again)
	}
	if want := []string{"bundle_pushed", "bundle_activated", "bundle_pushed", "bundle_activated", "bundle_pushed"}; !slices.Equal(b.recorder.events(), want) {
		t.Errorf("records %v", b.recorder.events())
	}
	last := b.recorder.records[3]
	if last.RequestedBy != "ci" || last.ClientIP != "192.0.2.1" || last.Resource != "bundle:app" || !strings.Contains(string(last.Bundles), `"app":"r2"`) {
		t.Errorf("record %+v", last)
	}
}

func TestPushChoices(t *testing.T) {
	b := newBench(t)
	dry := b.mustPush("app", files(t, app("r1")), func(p *bundles.PushRequest) { p.DryRun = true })
	if dry.Status != "dry_run" || dry.Active || len(b.kept()) != 0 || b.says("app") != "" {
		t.Errorf("dry run: %+v, %v kept", dry, b.kept())
	}
	kept := b.mustPush("app", files(t, app("r1")), func(p *bundles.PushRequest) { p.Keep = true })
	if kept.Status != "kept" || kept.Active || len(b.kept()) != 1 || b.says("app") != "" {
		t.Errorf("kept: %+v, %v kept", kept, b.kept())
	}
	matching := func(tags ...string) func(*bundles.PushRequest) {
		return func(p *bundles.PushRequest) { p.IfMatch = tags }
	}
	_, err := b.push("app", files(t, app("r1")), matching("r0"))
	wantRefusal(t, err, bundles.CodePrecondition, "", "no revision is active")
	now := b.mustPush("app", files(t, app("r1")), func(p *bundles.PushRequest) { p.IfNone = true })
	if now.Status != "active" || len(b.kept()) != 1 {
		t.Errorf("pushed again: %+v", now)
	}
	_, err = b.push("app", files(t, app("r2")), func(p *bundles.PushRequest) { p.IfNone = true })
	wantRefusal(t, err, bundles.CodePrecondition, "", "none was expected")
	_, err = b.push("app", files(t, app("r2")), matching("r0", "r3"))
	wantRefusal(t, err, bundles.CodePrecondition, "", `revision "r1" is active`)
	b.mustPush("app", files(t, app("r2")), matching("r1"))
	b.mustPush("app", files(t, app("r3")), matching("*"))
	if b.says("app", "said") != `"r3"` {
		t.Errorf("%s answers", b.says("app", "said"))
	}
}

func TestNames(t *testing.T) {
	b := newBench(t)
	for name, part := range map[string]string{
		"": "1 to 128", "a/b": "1 to 128", "..": "1 to 128", ".a": "1 to 128", strings.Repeat("a", 129): "1 to 128", "standard": "loaded at start",
	} {
		_, err := b.push(name, files(t, app("r1")))
		wantRefusal(t, err, bundles.CodeName, "", part)
	}
}

func TestHistory(t *testing.T) {
	b := newBench(t)
	serial := func(revision string, n int, nested bool) content {
		c := app(revision)
		metadata := fmt.Sprintf(`{"verdict.serial": %d}`, n)
		if nested {
			metadata = fmt.Sprintf(`{"verdict": {"serial": %d}}`, n)
		}
		c[".manifest"] = fmt.Sprintf(`{"revision": %q, "roots": ["app"], "metadata": %s}`, revision, metadata)
		return c
	}
	b.mustPush("app", files(t, app("r1")))
	b.mustPush("app", files(t, app("r2")))
	_, err := b.push("app", files(t, app("r1")))
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "/api/v1/bundles/app/rollback")
	packedAnew := slices.Concat([]entry{{name: "notes.d/", kind: tar.TypeDir}}, []entry{
		{name: "./app.rego", text: app("r1")["app.rego"]},
		{name: "./app/data.json", text: app("r1")["app/data.json"]},
		{name: "./.manifest", text: app("r1")[".manifest"]},
	})
	_, err = b.push("app", pack(t, packedAnew...))
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "active before")
	other := app("r1")
	other["app.rego"] += "\nmore := 1\n"
	_, err = b.push("app", files(t, other))
	wantRefusal(t, err, bundles.CodeUsed, bundles.GateHistory, `"r1" is in use`)

	b.mustPush("app", files(t, serial("s5", 5, false)))
	_, err = b.push("app", files(t, serial("s5b", 5, true)))
	wantRefusal(t, err, bundles.CodeSerial, bundles.GateHistory, "must be above 5")
	_, err = b.push("app", files(t, serial("s4", 4, true)))
	wantRefusal(t, err, bundles.CodeSerial, bundles.GateHistory, "is 4")
	keep := func(p *bundles.PushRequest) { p.Keep = true }
	b.mustPush("app", files(t, serial("s6", 6, true)), keep)
	b.mustPush("app", files(t, serial("s7", 7, true)))
	_, err = b.push("app", files(t, serial("s6", 6, true))) // never active, and behind by now
	wantRefusal(t, err, bundles.CodeSerial, bundles.GateHistory, "must be above 7")
	// Other names have a past of their own.
	c := app("r1")
	c[".manifest"] = strings.ReplaceAll(c[".manifest"], "app", "other")
	c = content{".manifest": c[".manifest"], "other.rego": "package other\n\nx := 1"}
	b.mustPush("other", files(t, c))
}

func TestRollback(t *testing.T) {
	b := newBench(t)
	for _, revision := range []string{"r1", "r2", "r3"} {
		b.mustPush("app", files(t, app(revision)))
	}
	back := func(revision string, warm bool) {
		t.Helper()
		done, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: revision, By: bundles.Origin{Caller: "oncall"}})
		if err != nil {
			t.Fatal(err)
		}
		if done.Warm != warm {
			t.Errorf("back to %q: warm %v", revision, done.Warm)
		}
		if last := b.recorder.last(t); last.Event != "bundle_rolled_back" || last.RequestedBy != "oncall" {
			t.Errorf("record %+v", last)
		}
	}
	back("", true)
	if b.says("app", "said") != `"r2"` {
		t.Errorf("%s answers", b.says("app", "said"))
	}
	back("r1", false)
	back("r2", true)
	if _, err := b.engine.Write(func(d *eval.Draft) error { return d.Patch(0, []string{"mine"}, ast.Number("1")) }); err != nil {
		t.Fatal(err)
	}
	back("r1", false) // what the API wrote since is not in the warm one
	if b.says("app", "said") != `"r1"` || b.says("mine") != "1" {
		t.Errorf("%s and %s answer", b.says("app", "said"), b.says("mine"))
	}
	_, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: "r9"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "no revision")
	_, err = b.Rollback(t.Context(), bundles.RollbackRequest{Name: "none"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "none")
	_, err = b.Rollback(t.Context(), bundles.RollbackRequest{Name: "no,ne", IfMatch: []string{""}})
	wantRefusal(t, err, bundles.CodeNotFound, "", "no,ne")
	_, err = b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: "r2", IfMatch: []string{"r3"}})
	wantRefusal(t, err, bundles.CodePrecondition, "", "r1")
	history, err := b.History(t.Context())
	if err != nil || len(history) != 7 || history[0].Kind != bundles.KindRollback || history[0].Bundles["app"] != "r1" {
		t.Errorf("history of %d, %v", len(history), err)
	}
}

func TestActivations(t *testing.T) {
	b := newBench(t)
	root := func(name, revision string) []byte {
		return files(t, content{
			".manifest":         fmt.Sprintf(`{"revision": %q, "roots": [%q]}`, revision, name),
			name + "/data.json": fmt.Sprintf(`{"said": %q}`, revision),
		})
	}
	keep := func(p *bundles.PushRequest) { p.Keep = true }
	for _, name := range []string{"a", "b"} {
		b.mustPush(name, root(name, "r1"))
		b.mustPush(name, root(name, "r2"), keep)
	}
	r1, r2, missing := "r1", "r2", "r9"
	_, err := b.Activate(t.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"a": &r2, "b": &missing}})
	wantRefusal(t, err, bundles.CodeNotFound, "", "r9")
	if b.says("a", "said") != `"r1"` {
		t.Error("half of it was done")
	}
	before := b.engine.Active().Generation()
	done, err := b.Activate(t.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"a": &r2, "b": &r2}})
	if err != nil {
		t.Fatal(err)
	}
	if b.engine.Active().Generation() != before+1 || b.says("a", "said") != `"r2"` || b.says("b", "said") != `"r2"` || len(done.Changed) != 2 {
		t.Errorf("activation %+v", done)
	}
	if done, err = b.Activate(t.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"a": &r2}}); err != nil || done.Number != 0 {
		t.Errorf("the same again: %+v, %v", done, err)
	}
	if _, err = b.Activate(t.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"a": nil, "b": &r1}}); err != nil {
		t.Fatal(err)
	}
	if b.says("a") != "" || b.says("b", "said") != `"r1"` {
		t.Errorf("a taken out: %s, %s", b.says("a"), b.says("b"))
	}
	again := open(t, reopened(b), nil)
	if again.says("a") != "" || again.says("b", "said") != `"r1"` {
		t.Errorf("after a start: %s, %s", again.says("a"), again.says("b"))
	}
}

// reopened closes a service and gives its folder.
func reopened(b *bench) string {
	b.close()
	return b.dir
}

func TestRestart(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r1")))
	b.mustPush("app", files(t, app("r2")))
	b = open(t, reopened(b), nil)
	if b.says("app", "said") != `"r2"` {
		t.Fatalf("%s answers", b.says("app", "said"))
	}
	_, err := b.push("app", files(t, app("r1")))
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "")
	if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app"}); err != nil || b.says("app", "said") != `"r1"` {
		t.Errorf("rollback after a start: %v", err)
	}
}

func TestDamagedArchive(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r1")))
	archive := b.kept()[0]
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(archive, files(t, app("r7")), 0o600) },
		"cut":     func() error { return os.WriteFile(archive, raw[:len(raw)/2], 0o600) },
		"gone":    func() error { return os.Remove(archive) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		bucket, err := b.store.Bucket(bundles.BucketName)
		if err != nil {
			t.Fatal(err)
		}
		s, err := bundles.Open(t.Context(), bundles.Options{Dir: filepath.Join(b.dir, "bundles"), Engine: b.engine, Bucket: bucket, Recorder: b.recorder})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Restore(t.Context()); !errors.Is(err, bundles.ErrDamaged) || !strings.Contains(err.Error(), "bundle app revision r1") {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

func TestViews(t *testing.T) {
	b := newBench(t)
	for _, revision := range []string{"r1", "r2", "r3"} {
		b.mustPush("app", files(t, app(revision)))
	}
	bad := app("r4")
	bad["app_test.rego"] = "package app_test\n\ntest_never if data.app.revision == \"r0\"\n"
	_, err := b.push("app", files(t, bad))
	refused := wantRefusal(t, err, bundles.CodeGate, bundles.GateTests, "1 of 1 tests failed")
	list, cursor, err := b.List(t.Context(), "", 0)
	if err != nil || cursor != "" || len(list) != 1 || list[0].Revision != "r3" || list[0].Previous != "r2" || list[0].ETag != `"r3"` {
		t.Errorf("list %+v, %q, %v", list, cursor, err)
	}
	page, next, err := b.Revisions(t.Context(), "app", 0, 2)
	if err != nil || len(page) != 2 || page[0].Revision != "r3" || page[0].Status != bundles.StatusActive || next != 2 {
		t.Errorf("first page %+v, %d, %v", page, next, err)
	}
	page, next, err = b.Revisions(t.Context(), "app", next, 2)
	if err != nil || len(page) != 2 || page[0].Revision != "r1" || page[1].Status != bundles.StatusRefused || next != 0 {
		t.Errorf("second page %+v, %d, %v", page, next, err)
	}
	for _, name := range []string{"r4", refused.Digest} {
		found, err := b.Revision(t.Context(), "app", name)
		if err != nil || found.Status != bundles.StatusRefused || found.PushedBy != "ci" {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	_, file, err := b.Archive(t.Context(), "app", "r2")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if raw, err := io.ReadAll(file); err != nil || !bytes.Equal(raw, files(t, app("r2"))) {
		t.Errorf("the archive is not what was pushed: %d bytes, %v", len(raw), err)
	}
	changes, err := b.Diff(t.Context(), "app", "r1", "r3")
	if err != nil || changes.Against != "r1" || changes.Rules.Count != 1 || changes.Data.Count != 1 {
		t.Errorf("diff %+v, %v", changes, err)
	}
	if _, err := b.Diff(t.Context(), "app", "r1", "r9"); err == nil {
		t.Error("a diff with nothing")
	}
	_, err = b.Bundle(t.Context(), "none")
	wantRefusal(t, err, bundles.CodeNotFound, "", "none")
}

func TestRetention(t *testing.T) {
	b := open(t, t.TempDir(), func(o *bundles.Options) { o.KeepRevisions, o.KeepDays = 3, 10 })
	for i := range 6 {
		b.mustPush("app", files(t, app(fmt.Sprintf("r%d", i))))
	}
	names := func() (list []string) {
		all, _, err := b.Revisions(t.Context(), "app", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			list = append(list, r.Revision)
		}
		return list
	}
	if got := names(); !slices.Equal(got, []string{"r5", "r4", "r3"}) || len(b.kept()) != 3 {
		t.Errorf("kept %v, files %v", got, b.kept())
	}
	_, err := b.push("app", files(t, app("r0"))) // remembered for ever
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "")
	b.now = b.now.Add(11 * 24 * time.Hour)
	b.mustPush("app", files(t, app("r6")))
	if got := names(); !slices.Equal(got, []string{"r6", "r5"}) || len(b.kept()) != 2 {
		t.Errorf("kept %v, files %v after the days", got, b.kept())
	}
	for i := range 8 {
		bad := app(fmt.Sprintf("bad%d", i))
		bad["app.rego"] = "package app\n\nx := y"
		_, err := b.push("app", files(t, bad))
		wantRefusal(t, err, bundles.CodeGate, bundles.GateCompile, "")
	}
	if n := len(b.kept()); n != 7 {
		t.Errorf("%d files, want 2 accepted and 5 refused ones", n)
	}
}

func TestAuditDecides(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r1")))
	before := len(b.kept())
	b.recorder.err = &audit.UnavailableError{Reason: audit.ReasonDiskFull}
	if _, err := b.push("app", files(t, app("r2"))); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("push: %v", err)
	}
	if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: "r1"}); err != nil {
		t.Errorf("a rollback to what is active: %v", err)
	}
	if _, err := b.push("app", []byte("nothing")); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("a refusal that cannot be recorded: %v", err)
	}
	b.recorder.err = nil
	if b.says("app", "said") != `"r1"` || len(b.kept()) != before {
		t.Errorf("%s answers, %v kept", b.says("app", "said"), b.kept())
	}
	b.mustPush("app", files(t, app("r2")))
}

func TestDetailsEncode(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r1")))
	for _, r := range b.recorder.records {
		if !json.Valid(r.Details) || !json.Valid(r.Bundles) {
			t.Errorf("record %s: %s", r.Event, r.Details)
		}
	}
}
