package audit

import (
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// Status is the state of the log, for people and for /api/v1/status.
type Status struct {
	Origin     string     `json:"origin"`
	Format     int        `json:"format"`
	Durability Durability `json:"durability"`
	Epoch      uint64     `json:"epoch"` // number of this run's system.start record

	Count    uint64     `json:"count"` // records in the log
	Next     uint64     `json:"next"`  // sequence number of the next record
	Head     chain.Hash `json:"head"`
	Root     chain.Hash `json:"root"`
	LastTime time.Time  `json:"last_time"`

	QueueRecords int   `json:"queue_records"`
	QueueBytes   int64 `json:"queue_bytes"`
	QueueOutside int   `json:"queue_outside"` // callers waiting for room

	Healthy     bool       `json:"healthy"`
	Refusing    Reason     `json:"refusing,omitempty"` // why records are refused
	Poisoned    string     `json:"poisoned,omitempty"` // the cause
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`

	UsedBytes    uint64  `json:"used_bytes"`
	FreeBytes    *uint64 `json:"free_bytes,omitempty"`
	MinFreeBytes uint64  `json:"min_free_bytes"`
	GrowthPerDay float64 `json:"growth_bytes_per_day"`
	Files        []File  `json:"files"`
}

// Status returns the state of the log. Sizes and free space are those of the
// monitor's last look.
func (l *Log) Status() Status {
	records, bytes, outside := l.queue.load()
	s := Status{
		Format: FormatVersion, Durability: l.opts.Durability, Epoch: l.epoch,
		QueueRecords: records, QueueBytes: bytes, QueueOutside: outside,
		Healthy: true, MinFreeBytes: l.opts.MinFreeBytes,
	}
	if err := l.refuse.Load(); err != nil {
		s.Healthy, s.Refusing = false, err.Reason
	}
	now := l.opts.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Origin, s.Count, s.Next = l.position.Origin, l.position.Next, l.position.Next
	s.Head, s.Root, s.LastTime = l.position.Head, l.position.Tree.Root(), l.position.Time
	if l.poison != nil {
		s.Poisoned = l.poison.Error()
	}
	s.LastError = l.lastErr
	if !l.lastAt.IsZero() {
		at := l.lastAt
		s.LastErrorAt = &at
	}
	s.UsedBytes, s.GrowthPerDay = l.watch.used, l.watch.growth(now)
	if l.watch.freeOK {
		free := l.watch.free
		s.FreeBytes = &free
	}
	s.Files = append([]File{}, l.watch.files...)
	return s
}
