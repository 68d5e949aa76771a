package storagetest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

const (
	crashEnv     = "STORAGETEST_CRASH_PLACE"
	crashRounds  = 8
	crashWriters = 4
	crashBucket  = "crash"
)

// Crash lets a child process write, kills it at a random moment, and looks
// whether what it was told is applied is there and every batch is whole; as
// many rounds as SOAK_ROUNDS says, default 8. It must be called by a test of its
// own, which the child runs again.
func Crash(t *testing.T, open Opener) {
	if place := os.Getenv(crashEnv); place != "" {
		crashChild(t, open(t, place, time.Now))
		return
	}
	rounds := crashRounds
	if n, err := strconv.Atoi(os.Getenv("SOAK_ROUNDS")); err == nil {
		rounds = n
	}
	place := t.TempDir()
	for range rounds {
		acknowledged := crashRound(t, place)
		s := open(t, place, time.Now)
		b, err := s.Bucket(crashBucket)
		if err != nil {
			t.Fatal(err)
		}
		for w, least := range acknowledged {
			checkWriter(t, b, w, least)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
}

// crashRound runs a child and kills it. It returns the last number that each
// writer was told is applied.
func crashRound(t *testing.T, place string) [crashWriters]int {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "60s")
	child.Env = append(os.Environ(), crashEnv+"="+place)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged [crashWriters]int
	lines, until := 0, 1+rand.IntN(400)
	for scan := bufio.NewScanner(out); scan.Scan(); lines++ {
		var w, n int
		if _, err := fmt.Sscanf(scan.Text(), "applied %d %d", &w, &n); err != nil {
			t.Errorf("the child says %q", scan.Text())
		} else {
			acknowledged[w] = n
		}
		if lines == until {
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := child.Wait(); err == nil || lines < until {
		t.Errorf("the child ended by itself after %d lines: %v", lines, err)
	}
	return acknowledged
}

// checkWriter looks at what a writer left: at least the number that it was told
// is applied, and at most the one after.
func checkWriter(t *testing.T, b storage.Bucket, w, least int) {
	t.Helper()
	entries, _ := mustAll(t, b, storage.Prefix(fmt.Sprintf("w%d", w)), 0)
	values := map[string]string{}
	for _, e := range entries {
		values[strings.TrimPrefix(e.Key, fmt.Sprintf("w%d.", w))] = string(e.Value)
	}
	n, _ := strconv.Atoi(values["a"])
	_, even := values["even"]
	if values["a"] != values["b"] || n < least || least > 0 && n > least+1 || even != (n > 0 && n%2 == 0) {
		t.Errorf("writer %d was told %d is applied, and left %v", w, least, values)
	}
}

// crashChild writes until it is killed. Each batch of a writer puts a number
// under two keys, and has a third key only when it is even.
func crashChild(t *testing.T, s Store) {
	b, err := s.Bucket(crashBucket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var out sync.Mutex
	for w := range crashWriters {
		wg.Go(func() {
			key := func(name string) string { return storage.Key(fmt.Sprintf("w%d", w), name) }
			e, _ := b.Get(t.Context(), key("a")) // absent in the first round
			n, _ := strconv.Atoi(string(e.Value))
			revision := e.Revision
			for {
				n++
				third := storage.Delete(key("even"))
				if n%2 == 0 {
					third = storage.Put(key("even"), make([]byte, rand.IntN(20000)))
				}
				value := []byte(strconv.Itoa(n))
				revisions, err := b.Apply(context.Background(), storage.Replace(key("a"), value, revision), third, storage.Put(key("b"), value))
				out.Lock()
				if err != nil {
					fmt.Println("failed", err)
				} else {
					fmt.Println("applied", w, n)
					revision = revisions[0]
				}
				out.Unlock()
			}
		})
	}
	wg.Wait()
}
