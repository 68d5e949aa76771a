package segmentread_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/internal/surgeon"
	"github.com/verdict-pdp/verdict/storage/segmentread"
)

func write(t testing.TB, n uint64, o surgeon.Options) (audit string) {
	t.Helper()
	dir := t.TempDir()
	if err := surgeon.Write(dir, n, surgeon.Sample, o); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "audit")
}

func open(t testing.TB, audit string) *segmentread.Dir {
	t.Helper()
	d, err := segmentread.Open(audit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// What bbolt reads is what is read here, inline buckets, long values and several
// page sizes included.
func TestSameAsBbolt(t *testing.T) {
	blob := func(seq uint64) []byte {
		switch seq % 50 {
		case 1:
			return []byte(strings.Repeat("b", int(seq)*4000)) // up to 3.6 MB: over several reads
		case 2:
			return []byte{byte(seq)}
		}
		return nil
	}
	for _, pageSize := range []int{1024, 4096, 8192, 65536} {
		audit := write(t, 900, surgeon.Options{Blob: blob, PageSize: pageSize, Batch: 33, Freelist: pageSize == 4096})
		d := open(t, audit)
		ctx := context.Background()
		names, err := d.Inspect(ctx, 0)
		if err != nil || strings.Join(names, " ") != "blob meta rec seg tile" {
			t.Fatalf("page size %d: buckets %v, %v", pageSize, names, err)
		}
		type entry struct{ bucket, key, value string }
		var got, want []entry
		for _, name := range append(names, "none") {
			err := d.Walk(ctx, 0, name, func(k, v []byte) error {
				got = append(got, entry{name, string(k), string(v)})
				return nil
			})
			if err != nil {
				t.Fatalf("page size %d, bucket %s: %v", pageSize, name, err)
			}
		}
		db, err := bolt.Open(surgeon.FilePath(audit, 0), 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					want = append(want, entry{string(name), string(k), string(v)})
					return nil
				})
			})
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("page size %d: %d entries, want %d", pageSize, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("page size %d: entry %d is %.80q, want %.80q", pageSize, i, got[i], want[i])
			}
		}
	}
}

func TestOpen(t *testing.T) {
	empty := t.TempDir()
	if _, err := segmentread.Open(filepath.Join(empty, "audit")); !errors.Is(err, segmentread.ErrNoLog) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(empty, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := segmentread.Open(empty); !errors.Is(err, segmentread.ErrNoLog) {
		t.Errorf("empty folder: %v", err)
	}

	audit := write(t, 5, surgeon.Options{})
	if err := os.Remove(filepath.Join(audit, "lock")); err != nil {
		t.Fatal(err)
	}
	open(t, audit) // a copy without its lock file
	if _, err := os.Stat(filepath.Join(audit, "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a lock file: %v", err)
	}
	open(t, audit) // two at once

	for name, make := range map[string]func(path string) error{
		"folder": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":   func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"link":   func(p string) error { return os.Symlink("nowhere", p) },
	} {
		if err := make(surgeon.FilePath(audit, 1)); err != nil {
			t.Fatal(err)
		}
		d := open(t, audit)
		_, err := d.Inspect(context.Background(), 1)
		if _, damaged := errors.AsType[*segmentread.DamageError](err); err == nil || damaged {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(surgeon.FilePath(audit, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInUse(t *testing.T) {
	audit := write(t, 5, surgeon.Options{})
	check := func(what string, err error) {
		t.Helper()
		var in *segmentread.InUseError
		if !errors.Is(err, segmentread.ErrInUse) || !errors.As(err, &in) || !strings.Contains(err.Error(), "pid 4711 (verdict serve)") ||
			!strings.Contains(err.Error(), "--server") {
			t.Errorf("%s: %v", what, err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(audit, "lock"), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.WriteString("4711 verdict serve\n"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	_, err = segmentread.Open(audit)
	check("lock held", err)
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}

	// Another program has the file alone.
	db, err := bolt.Open(surgeon.FilePath(audit, 0), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, audit)
	_, err = d.Inspect(context.Background(), 0)
	check("file held", err)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Inspect(context.Background(), 0); err != nil {
		t.Errorf("free again: %v", err)
	}
}

func TestNotReadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	audit := write(t, 5, surgeon.Options{})
	if err := os.Chmod(surgeon.FilePath(audit, 0), 0); err != nil {
		t.Fatal(err)
	}
	d := open(t, audit)
	if _, err := d.Inspect(context.Background(), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

func TestWalkEnds(t *testing.T) {
	d := open(t, write(t, 3000, surgeon.Options{}))
	stop := errors.New("enough")
	n := 0
	if err := d.Walk(context.Background(), 0, "rec", func(_, _ []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err := d.Walk(ctx, 0, "rec", func(_, _ []byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
