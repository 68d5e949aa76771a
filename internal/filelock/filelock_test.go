package filelock_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/verdict-pdp/verdict/internal/filelock"
)

func TestOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	o := filelock.Options{Path: path, What: "notebook", Command: "first one"}
	first, err := filelock.Acquire(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = filelock.Acquire(o)
	held, ok := errors.AsType[*filelock.HeldError](err)
	if !ok || held.Holder != fmt.Sprintf("%d first one", os.Getpid()) || held.Read {
		t.Fatalf("second Acquire: %v", err)
	}
	for _, part := range []string{"notebook is in use by process", `"first one"`, path} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	// Whoever waits gets it when it is given up.
	released := make(chan error, 1)
	go func() { released <- first.Release() }()
	o.Wait = 10 * time.Second
	second, err := filelock.Acquire(o)
	if err := errors.Join(err, <-released); err != nil {
		t.Fatal(err)
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadFile(path); err != nil || len(left) > 0 {
		t.Errorf("left in the file: %q, %v", left, err)
	}
}

func TestAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	_, err = filelock.Acquire(filelock.Options{Path: path, What: "audit log"})
	if held, ok := errors.AsType[*filelock.HeldError](err); !ok || !held.Read || !strings.Contains(err.Error(), "audit log is being read") {
		t.Errorf("got %v", err)
	}
}

func TestNoFolder(t *testing.T) {
	if _, err := filelock.Acquire(filelock.Options{Path: "/dev/null/x"}); err == nil {
		t.Error("took a lock below a file")
	}
}
