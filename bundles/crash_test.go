package bundles_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// childDir is the variable that makes this test binary push for ever.
const childDir = "VERDICT_BUNDLES_CHILD"

var errCrash = errors.New("crash")

// TestCrashPoints stops a push at each of its steps, opens everything again,
// and wants the old set or the new one, and no file that nobody needs.
func TestCrashPoints(t *testing.T) {
	points := []string{"received", "before keep", "kept", "recorded", "activating", "activation recorded", "activated"}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			b := newBench(t)
			b.mustPush("app", files(t, app("r1")))
			reached := false
			b.SetFault(func(at string) error {
				if at == point {
					reached = true
					return errCrash
				}
				return nil
			})
			if _, err := b.push("app", files(t, app("r2"))); err == nil || !reached {
				t.Fatalf("reached %v, %v", reached, err)
			}
			if b.says("app", "said") != `"r1"` {
				t.Error("what was not acknowledged answers")
			}
			b = open(t, reopened(b), nil)
			want := `"r1"`
			if point == "activated" {
				want = `"r2"`
			}
			if got := b.says("app", "said"); got != want {
				t.Errorf("%s answers, want %s", got, want)
			}
			wantNoOrphans(b)
			if point != "activated" {
				b.mustPush("app", files(t, app("r2")))
			}
			b.mustPush("app", files(t, app("r3")))
		})
	}
}

// wantNoOrphans wants a file for each revision that is kept, and no other.
func wantNoOrphans(b *bench) {
	b.Helper()
	needed := map[string]bool{}
	list, _, err := b.List(b.Context(), "", 0)
	if err != nil {
		b.Fatal(err)
	}
	for _, one := range list {
		all, _, err := b.Revisions(b.Context(), one.Name, 0, 0)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range all {
			needed[r.Archive.SHA256+".tar.gz"] = true
		}
	}
	for _, path := range b.kept() {
		if !needed[filepath.Base(path)] {
			b.Errorf("nobody needs %s", path)
		}
		delete(needed, filepath.Base(path))
	}
	if len(needed) > 0 {
		b.Errorf("missing: %v", needed)
	}
}

// numbered is a bundle whose data tell a number.
func numbered(t testing.TB, name string, n int) []byte {
	return files(t, content{
		".manifest":         fmt.Sprintf(`{"revision": "n%d", "roots": [%q]}`, n, name),
		name + "/data.json": fmt.Sprintf(`{"number": %d, "filler": %q}`, n, noise(20_000)),
		name + ".rego":      fmt.Sprintf("package %s.rules\n\nnumber := %d\n", name, n),
	})
}

// TestKill kills a process that pushes two bundles and makes both active at
// once, again and again, at any moment. After each start both have one number,
// the acknowledged one or the next.
func TestKill(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		pushForEver(t, dir)
		return
	}
	rounds := 20
	dir := t.TempDir()
	acknowledged := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		killing := false
		for lines.Scan() {
			var n int
			if _, err := fmt.Sscanf(lines.Text(), "active %d", &n); err != nil {
				continue
			}
			acknowledged = n
			if !killing { // from the first acknowledgement on, at some moment
				killing = true
				time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		b := open(t, dir, func(o *bundles.Options) { o.KeepRevisions = 3 })
		left, right := b.says("left", "number"), b.says("right", "number")
		if left != right || left != fmt.Sprint(acknowledged) && left != fmt.Sprint(acknowledged+1) {
			t.Fatalf("round %d: left %s, right %s, acknowledged %d", round, left, right, acknowledged)
		}
		wantNoOrphans(b)
		b.close()
	}
	t.Logf("%d activations in %d rounds", acknowledged, rounds)
}

// pushForEver is the child.
func pushForEver(t *testing.T, dir string) {
	b := open(t, dir, func(o *bundles.Options) { o.KeepRevisions = 3 })
	n := 0
	if _, err := fmt.Sscan(b.says("left", "number"), &n); err != nil {
		n = 0
	}
	keep := func(p *bundles.PushRequest) { p.Keep = true }
	for n++; ; n++ {
		revision := fmt.Sprintf("n%d", n)
		b.mustPush("left", numbered(t, "left", n), keep)
		b.mustPush("right", numbered(t, "right", n), keep)
		if _, err := b.Activate(context.Background(), bundles.ActivationRequest{Bundles: map[string]*string{"left": &revision, "right": &revision}}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("active", n)
	}
}

// TestManyActivations wants no growth of memory, goroutines or files.
func TestManyActivations(t *testing.T) {
	rounds := 1000
	if testing.Short() || servertest.Race() {
		rounds = 60
	}
	b := open(t, t.TempDir(), func(o *bundles.Options) { o.KeepRevisions = 3 })
	push := func(n int) {
		b.mustPush("app", numbered(t, "app", n))
		if n%10 == 9 {
			if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	measure := func() (heap uint64, goroutines, files int) {
		b.recorder.records = nil
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine(), len(b.kept())
	}
	for n := range 20 {
		push(n)
	}
	heap, goroutines, kept := measure()
	for n := range rounds {
		push(20 + n)
	}
	heapAfter, goroutinesAfter, keptAfter := measure()
	t.Logf("%d rounds: heap %d to %d KiB, goroutines %d to %d, files %d to %d", rounds, heap>>10, heapAfter>>10, goroutines, goroutinesAfter, kept, keptAfter)
	if heapAfter > heap+2<<20 || goroutinesAfter > goroutines+2 || keptAfter > kept+1 {
		t.Errorf("heap %d to %d KiB, goroutines %d to %d, files %d to %d", heap>>10, heapAfter>>10, goroutines, goroutinesAfter, kept, keptAfter)
	}
	wantNoOrphans(b)
	if history, err := b.History(t.Context()); err != nil || len(history) > 100 {
		t.Errorf("history of %d, %v", len(history), err)
	}
}

// TestActivationLeavesQueriesAlone asks all the time while sets are exchanged:
// each answer is one of one set.
func TestActivationLeavesQueriesAlone(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", numbered(t, "app", 0))
	stop, done := make(chan struct{}), make(chan error)
	go func() { // ended by stop
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			snapshot := b.engine.Active()
			data, err := snapshot.Read([]string{"app", "number"})
			if err != nil {
				done <- err
				return
			}
			if rule := snapshot.Compiled("app/app.rego").Rules[0].Head.Value.Value; rule.Compare(data) != 0 {
				done <- fmt.Errorf("rule %v beside data %v", rule, data)
				return
			}
		}
	}()
	for n := 1; n < 20; n++ {
		b.mustPush("app", numbered(t, "app", n))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestParallelPushes wants one of many pushes with one If-Match to be taken.
func TestParallelPushes(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r0")))
	const pushes = 6
	results := make(chan error, pushes)
	for i := range pushes {
		packed := files(t, app(fmt.Sprintf("p%d", i)))
		go func() {
			_, err := b.push("app", packed, func(p *bundles.PushRequest) { p.IfMatch = []string{"r0"} })
			results <- err
		}()
	}
	taken := 0
	for range pushes {
		err := <-results
		if err == nil {
			taken++
			continue
		}
		if refused, ok := errors.AsType[*bundles.Error](err); !ok || refused.Code != bundles.CodePrecondition {
			t.Errorf("refused with %v", err)
		}
	}
	if taken != 1 {
		t.Errorf("%d pushes were taken", taken)
	}
	if n := strings.Count(strings.Join(b.recorder.events(), " "), audit.EventBundleActivated); n != 2 {
		t.Errorf("%d activations", n)
	}
}
