package segment_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/storage/segment"
)

const (
	childDir   = "SEGMENT_TEST_CHILD" // the folder of the log: this process is a child
	childLimit = "SEGMENT_TEST_LIMIT" // its RLIMIT_FSIZE, if any
	callers    = 16
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child appends with several callers until it is killed or fails, and prints for
// every record that is durable its number and id.
func child(dir string) error {
	if limit := os.Getenv(childLimit); limit != "" {
		n, err := strconv.ParseUint(limit, 10, 64)
		if err != nil {
			return err
		}
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	store, err := segment.Open(dir, small())
	if err != nil {
		return err
	}
	log, err := audit.Open(store, audit.Options{PoisonLinger: time.Millisecond})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for c := range callers {
		go func() {
			for i := 0; ; i++ {
				r := decision()
				r.DecisionID = fmt.Sprintf("%d-%d-%d", os.Getpid(), c, i)
				receipt, err := log.Append(ctx, r)
				if err != nil {
					return
				}
				// One write: a killed process leaves no half line but the last.
				fmt.Fprintf(os.Stdout, "%d %s\n", receipt.Seq, r.DecisionID)
			}
		}()
	}
	return log.Run(ctx)
}

// What was confirmed before kill -9 is there after it, wherever the kill struck;
// the log verifies, and starts by itself.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	rounds := 25
	total := 0
	for round := range rounds {
		acked := killed(t, dir, time.Duration(20+rnd.IntN(120))*time.Millisecond)
		total += len(acked)
		s := open(t, dir, small())
		for seq, id := range acked {
			rec, err := s.Record(seq)
			if err != nil || !bytes.Contains(rec, []byte(`"decision_id":"`+id+`"`)) {
				t.Errorf("round %d: record %d of %s was confirmed, got %q, %v", round, seq, id, rec, err)
			}
		}
		verifyStore(t, s)
		closeStore(t, s)
	}
	if total < rounds {
		t.Errorf("only %d records were confirmed in %d rounds", total, rounds)
	}
	t.Logf("%d records confirmed in %d rounds", total, rounds)
}

// killed runs a child on the log, kills it after a while and returns what it had
// confirmed.
func killed(t *testing.T, dir string, after time.Duration) map[uint64]string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[uint64]string{}
	var once sync.Once
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // what has no end was cut by the kill
		}
		once.Do(func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) })
		seq, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(seq, 10, 64)
		if !ok || err != nil {
			t.Fatalf("child: %s", line)
		}
		acked[n] = id
	}
	_ = cmd.Wait()
	return acked
}

// verifyStore re-hashes every record.
func verifyStore(t testing.TB, s *segment.Store) {
	t.Helper()
	want := s.Position()
	head, tree := chain.Genesis(want.Origin), chain.Tree{}
	err := s.Scan(t.Context(), 0, func(seq uint64, rec []byte) error {
		if got, _, _, err := audit.ParseHead(rec); err != nil || got != seq || seq != tree.Size() {
			return fmt.Errorf("record %d at %d says %d: %v", seq, tree.Size(), got, err)
		}
		leaf := chain.Leaf(rec)
		head = chain.Next(head, leaf)
		tree.Append(leaf)
		return nil
	})
	if err != nil || tree.Size() != want.Next || head != want.Head || tree.Root() != want.Tree.Root() {
		t.Errorf("%d records of %d, chain %v: %v", tree.Size(), want.Next, head == want.Head, err)
	}
}

// Between two commits a crash may leave any part of the pages that were written
// and not yet synced. Without the meta page the log is the old one, with it the
// new one, and nothing else.
func TestCrashStates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	path := logFile(dir, 0)
	s := open(t, dir, small())
	read := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	states := [][]byte{read()}
	counts := []uint64{0}
	for _, n := range []int{1, 3, 60, 2, 200, 1, 100} {
		fill(t, s, n, "")
		states, counts = append(states, read()), append(counts, s.Position().Next)
	}
	closeStore(t, s)
	const page = 8192
	rnd := rand.New(rand.NewPCG(3, 4))
	try := func(what string, b []byte, want uint64) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, small())
		if got := s.Position().Next; got != want {
			t.Errorf("%s: %d records, want %d", what, got, want)
		}
		verifyStore(t, s)
		fill(t, s, 5, "")
		closeStore(t, s)
	}
	for i := 1; i < len(states); i++ {
		before, after := states[i-1], states[i]
		for n := range 12 {
			b := make([]byte, len(after))
			if n%2 == 0 && len(before) < len(after) {
				b = b[:len(before)+rnd.IntN((len(after)-len(before))/page+1)*page]
			}
			copy(b, before)
			for at := 2 * page; at < len(b); at += page {
				switch rnd.IntN(3) {
				case 0: // not written
				case 1:
					copy(b[at:at+page], after[at:])
				case 2: // torn
					cut := at + 512*rnd.IntN(page/512)
					copy(b[at:cut], after[at:])
				}
			}
			if len(b) < len(before) || n == 0 {
				b = bytes.Clone(before)
			}
			try(fmt.Sprintf("state %d.%d", i, n), b, counts[i-1])
		}
		try(fmt.Sprintf("state %d", i), after, counts[i])
	}
}

// With a limit on the size of files the write that hits it poisons the log, and
// without the limit the next start goes on.
func TestFileSizeLimit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childLimit+"=300000")
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), "file too large") || !strings.Contains(string(out), audit.ErrPoisoned.Error()) {
		end := out[max(0, len(out)-500):]
		t.Fatalf("child: %v: %s", err, end)
	}
	s := open(t, dir, small())
	defer closeStore(t, s)
	lines := strings.Split(string(out), "\n")
	checked := 0
	for _, line := range lines {
		seq, id, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(seq, 10, 64); err == nil {
			checked++
			if rec, err := s.Record(n); err != nil || !bytes.Contains(rec, []byte(id)) {
				t.Errorf("record %d of %s was confirmed: %v", n, id, err)
			}
		}
	}
	if checked == 0 {
		t.Error("nothing was confirmed before the limit")
	}
	verifyStore(t, s)
	fill(t, s, 100, "")
}

// tmpfs mounts a file system of that size; without the right to, it skips.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount a tmpfs (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is really full: every caller gets an error, nothing is half-written,
// and with space a restart is all it takes.
func TestDiskFull(t *testing.T) {
	mount := tmpfs(t, "1m")
	dir := filepath.Join(mount, "audit")
	log, err := audit.Open(open(t, dir, small()), audit.Options{PoisonLinger: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- log.Run(context.Background()) }()
	r := decision()
	var last audit.Receipt
	for {
		receipt, err := log.Append(t.Context(), r)
		if err != nil {
			if !strings.Contains(err.Error(), "poisoned") {
				t.Errorf("Append = %v", err)
			}
			break
		}
		last = receipt
	}
	if err := <-ran; err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Run = %v", err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, small())
	if next := s.Position().Next; next <= last.Seq {
		t.Errorf("record %d was confirmed, the log ends before %d", last.Seq, next)
	}
	verifyStore(t, s)
	fill(t, s, 600, "")
	closeStore(t, s)
}

// Free space as the file system reports it stops the log before the disk is full.
func TestFreeSpaceStopsTheLog(t *testing.T) {
	mount := tmpfs(t, "4m")
	log, err := audit.Open(open(t, filepath.Join(mount, "audit"), small()), audit.Options{
		MinFreeBytes: 2 << 20, Free: segment.FreeBytes(mount), MonitorInterval: time.Millisecond, QueueWait: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- log.Run(ctx) }()
	fill := filepath.Join(mount, "ballast")
	if err := os.WriteFile(fill, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	await := func(what string, cond func(error) bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if _, err := log.Append(ctx, decision()); cond(err) {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	await("full", func(err error) bool { return err != nil && strings.Contains(err.Error(), "disk_full") })
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	await("free again", func(err error) bool { return err == nil })
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	mount := tmpfs(t, "4m")
	dir := filepath.Join(mount, "audit")
	s := open(t, dir, small())
	fill(t, s, 3, "")
	closeStore(t, s)
	if err := syscall.Mount("tmpfs", mount, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := segment.Open(dir, small()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Open = %v", err)
	}
}

func TestUnreadableFolder(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := made(t, 3)
	if err := os.Chmod(filepath.Join(dir, "log"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "log"), 0o700) })
	if _, err := segment.Open(dir, small()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Open = %v", err)
	}
}

var _ audit.Store = (*segment.Store)(nil)
