package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

const modelSteps = 1500

// model is what a bucket should hold, and what a watcher of it should see.
type model struct {
	*harness
	bucket  storage.Bucket
	rand    *rand.Rand
	entries map[string]storage.Entry
	last    uint64 // revision of the last write
	mirror  *mirror
	saved   []byte // a snapshot, and the entries in it
	content map[string]storage.Entry
}

// testModel runs random operations on a store and on a map, and compares.
func testModel(t *testing.T, open Opener) {
	seed := uint64(time.Now().UnixNano())
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	h := start(t, open)
	m := &model{harness: h, bucket: h.Store.mustBucket(t), rand: rand.New(rand.NewPCG(seed, 0)), entries: map[string]storage.Entry{}}
	m.list()
	for range modelSteps {
		switch n := m.rand.IntN(200); {
		case n < 150:
			m.write()
		case n < 180:
			m.get()
		case n < 190:
			h.clock.advance(time.Duration(m.rand.IntN(3000)) * time.Millisecond)
		case n < 196:
			m.list()
		case n < 198 && h.Archive != nil:
			m.archive()
		case n == 199:
			h.reopen()
			m.bucket = h.Store.mustBucket(t)
			m.mirror = nil
		}
		if t.Failed() {
			return
		}
	}
	m.list()
}

func (s Store) mustBucket(t testing.TB) storage.Bucket {
	t.Helper()
	b, err := s.Bucket("model")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *model) key() string { return fmt.Sprintf("p%d.k%d", m.rand.IntN(2), m.rand.IntN(6)) }

// live is the entry that the key should have; revision 0: none.
func (m *model) live(key string) storage.Entry {
	e := m.entries[key]
	if !e.Expires.IsZero() && !e.Expires.After(m.clock.now()) {
		return storage.Entry{}
	}
	return e
}

func (m *model) write() {
	var ops []storage.Op
	used := map[string]bool{}
	holds := true
	for range 1 + m.rand.IntN(4) {
		key := m.key()
		if used[key] {
			continue
		}
		used[key] = true
		op, ok := m.op(key)
		ops, holds = append(ops, op), holds && ok
	}
	if storage.CheckOps(ops) != nil {
		return // checks alone
	}
	revisions, err := m.bucket.Apply(m.t.Context(), ops...)
	if !holds {
		wantError(m.t, "Apply", err, storage.ErrConflict)
		return
	}
	if err != nil {
		m.t.Errorf("Apply of %+v: %v", ops, err)
		return
	}
	for i, op := range ops {
		if op.Kind == storage.KindCheck || op.Kind == storage.KindDelete && revisions[i] == 0 {
			if m.live(op.Key).Revision != 0 && op.Kind == storage.KindDelete {
				m.t.Errorf("deleting %s changed nothing", op.Key)
			}
			continue
		}
		if revisions[i] <= m.last {
			m.t.Errorf("revision %d after %d", revisions[i], m.last)
		}
		m.last = revisions[i]
		delete(m.entries, op.Key)
		if op.Kind == storage.KindPut {
			m.entries[op.Key] = storage.Entry{Key: op.Key, Value: op.Value, Revision: revisions[i], Expires: op.Expires}
		}
	}
}

// op makes an operation on the key; ok: its condition holds.
func (m *model) op(key string) (op storage.Op, ok bool) {
	revision := m.live(key).Revision
	expected := revision
	if m.rand.IntN(8) == 0 {
		expected = uint64(m.rand.IntN(int(m.last) + 2))
	}
	value := fmt.Appendf(nil, "%d", m.rand.Uint32())
	switch m.rand.IntN(6) {
	case 0:
		return storage.Delete(key), true
	case 1:
		if expected != 0 {
			return storage.DeleteAt(key, expected), expected == revision
		}
		return storage.Create(key, value), revision == 0
	case 2:
		return storage.Check(key, expected), expected == revision
	case 3:
		until := m.clock.now().Add(time.Duration(m.rand.IntN(5000)+1) * time.Millisecond)
		return storage.Put(key, value).Until(until), true
	case 4:
		return storage.Replace(key, value, expected), expected == revision
	default:
		return storage.Put(key, value), true
	}
}

func (m *model) get() {
	key := m.key()
	expected := m.live(key)
	e, err := m.bucket.Get(m.t.Context(), key)
	if expected.Revision == 0 {
		wantError(m.t, "Get", err, storage.ErrNotFound)
	} else if err != nil || !same(e, expected) {
		m.t.Errorf("Get = %+v, %v, want %+v", e, err, expected)
	}
}

func same(a, b storage.Entry) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Revision == b.Revision && a.Expires.Equal(b.Expires)
}

// list compares a list, and what was watched since the last one.
func (m *model) list() {
	prefix := []string{"", "p0.", "p1."}[m.rand.IntN(3)]
	entries, revision := mustAll(m.t, m.bucket, prefix, m.rand.IntN(5))
	var expected []storage.Entry
	for key := range m.entries {
		if e := m.live(key); e.Revision != 0 && strings.HasPrefix(key, prefix) {
			expected = append(expected, e)
		}
	}
	slices.SortFunc(expected, func(a, b storage.Entry) int { return strings.Compare(a.Key, b.Key) })
	if !slices.EqualFunc(entries, expected, same) || revision < m.last {
		m.t.Errorf("List(%q) = %+v at %d, want %+v at %d", prefix, entries, revision, expected, m.last)
	}
	m.watch(revision)
	m.mirror = &mirror{entries: map[string]storage.Event{}, last: revision}
	for key, e := range m.entries {
		m.mirror.entries[key] = storage.Event{Entry: e}
	}
}

// watch brings the mirror up to the revision.
func (m *model) watch(revision uint64) {
	if m.mirror == nil || m.mirror.last >= m.last {
		return
	}
	err := m.bucket.Watch(m.t.Context(), "", m.mirror.last, func(e storage.Event) error {
		if err := m.mirror.take(e); err != nil {
			return err
		}
		if e.Revision >= m.last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, storage.ErrCompacted) {
		return
	}
	wantError(m.t, fmt.Sprintf("Watch up to %d of %d", m.last, revision), err, errEnough)
	if len(m.mirror.entries) != len(m.entries) {
		m.t.Errorf("watching gave %s, want %d entries", m.mirror.text(), len(m.entries))
	}
	for key, e := range m.entries {
		if !same(m.mirror.entries[key].Entry, e) {
			m.t.Errorf("watching gave %+v, want %+v", m.mirror.entries[key].Entry, e)
		}
	}
}

// archive takes a snapshot, or restores the last one.
func (m *model) archive() {
	if m.saved == nil {
		m.saved = snapshot(m.t, m.harness)
		m.content = map[string]storage.Entry{}
		for key := range m.entries {
			if e := m.live(key); e.Revision != 0 {
				m.content[key] = e
			}
		}
		return
	}
	if err := m.Archive.Restore(m.t.Context(), bytes.NewReader(m.saved)); err != nil {
		m.t.Errorf("Restore: %v", err)
		return
	}
	m.entries, m.mirror = m.content, nil
	entries, revision := mustAll(m.t, m.bucket, "", 0)
	for _, e := range entries {
		if e.Revision <= m.last {
			m.t.Errorf("a restored entry has revision %d, %d was there before", e.Revision, m.last)
		}
	}
	for key := range m.entries { // those that expired meanwhile have one nobody sees
		restored := m.entries[key]
		restored.Revision = revision
		m.entries[key] = restored
	}
	for _, e := range entries {
		restored := m.entries[e.Key]
		restored.Revision = e.Revision
		m.entries[e.Key] = restored
	}
	m.last = revision
	m.saved, m.content = nil, nil
}
