package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// Memory is an audit.Store in memory whose faults are injected. What it holds
// survives Close, as a disk would: Reopen gives the store of the next run.
type Memory struct {
	// BeforeAppend and AfterAppend are called around each Append, outside all locks.
	// An error of the former fails the batch before it is applied, one of the latter
	// after it: "failed, not applied" and "failed, yet applied". They are set before
	// the store is used.
	BeforeAppend func(*audit.Batch) error
	AfterAppend  func(*audit.Batch) error
	// Missing is what Inspect returns.
	Missing func() error
	// Limit is what Room returns; 0: no limit.
	Limit uint64

	mu      sync.Mutex
	records [][]byte
	blobs   map[chain.Hash][]byte
	pos     audit.Position
	batches []int
	failed  bool
}

// NewMemory returns an empty store of an origin.
func NewMemory(origin string) *Memory {
	m := &Memory{blobs: map[chain.Hash][]byte{}}
	m.pos.Origin, m.pos.Head = origin, chain.Genesis(origin)
	return m
}

// Reopen returns a store of the same records without faults.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{records: slices.Clone(m.records), blobs: m.blobs, pos: m.pos}
}

// Records returns all records.
func (m *Memory) Records() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.records)
}

// Batches returns the sizes of the batches that were applied.
func (m *Memory) Batches() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.batches)
}

// Position returns where the log ends.
func (m *Memory) Position() audit.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pos
}

// Room returns Limit.
func (m *Memory) Room() uint64 {
	if m.Limit == 0 {
		return 1 << 62
	}
	return m.Limit
}

// Append applies the batch unless a fault is injected.
func (m *Memory) Append(b *audit.Batch) error {
	if m.BeforeAppend != nil {
		if err := m.BeforeAppend(b); err != nil {
			m.fail()
			return err
		}
	}
	if err := m.apply(b); err != nil {
		return err
	}
	if m.AfterAppend != nil {
		if err := m.AfterAppend(b); err != nil {
			m.fail()
			return err
		}
	}
	return nil
}

func (m *Memory) fail() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed = true
}

func (m *Memory) apply(b *audit.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed {
		return errors.New("memory: Append after a failed Append")
	}
	if n := uint64(len(b.Records)); n == 0 || n > m.Room() || b.First != m.pos.Next || b.After.Next != b.First+n {
		return fmt.Errorf("memory: batch of %d records from %d on at %d", n, b.First, m.pos.Next)
	}
	for _, rec := range b.Records {
		m.records = append(m.records, bytes.Clone(rec))
	}
	for _, blob := range b.Blobs {
		m.blobs[blob.Sum] = bytes.Clone(blob.Bytes)
	}
	m.pos = b.After
	m.batches = append(m.batches, len(b.Records))
	return nil
}

// Record returns the bytes of a record.
func (m *Memory) Record(seq uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq >= uint64(len(m.records)) {
		return nil, audit.ErrNotFound
	}
	return bytes.Clone(m.records[seq]), nil
}

// Blob returns the bytes with that hash.
func (m *Memory) Blob(sum chain.Hash) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.blobs[sum]
	if !ok {
		return nil, audit.ErrNotFound
	}
	return bytes.Clone(b), nil
}

// Scan calls fn for the records from the number from on.
func (m *Memory) Scan(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error {
	records := m.Records()
	for ; from < uint64(len(records)); from++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(from, bytes.Clone(records[from])); err != nil {
			return err
		}
	}
	return nil
}

// Search looks through everything.
func (m *Memory) Search(ctx context.Context, _, _ time.Time, match func([]byte) bool) (uint64, []byte, error) {
	for seq, rec := range m.Records() {
		if err := ctx.Err(); err != nil {
			return 0, nil, err
		}
		if match(rec) {
			return uint64(seq), bytes.Clone(rec), nil
		}
	}
	return 0, nil, audit.ErrNotFound
}

// Window is everything.
func (m *Memory) Window(context.Context, time.Time, time.Time) (first, next uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 0, uint64(len(m.records)), nil
}

// Inspect reports one file, or what Missing says.
func (m *Memory) Inspect() (audit.Inspection, error) {
	if m.Missing != nil {
		if err := m.Missing(); err != nil {
			return audit.Inspection{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var used uint64
	for _, rec := range m.records {
		used += uint64(len(rec))
	}
	return audit.Inspection{Files: []audit.File{{Name: "memory", Size: used}}, Used: used}, nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }
