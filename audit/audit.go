// Package audit is the hash-chained log in which every decision stands before it
// is answered. A Record is encoded once, by appending; those bytes are stored,
// hashed, exported and shown. One writer numbers, times and chains what callers
// hand in, and makes whatever waits durable in one step of the Store.
//
// What is answered is durable: in the durable mode Append returns nil only after
// the store has confirmed the record. The converse does not hold. A record whose
// Append failed or timed out may be found in the log, because a failed write is
// one of unknown effect. After any failed write the log is poisoned: it refuses
// everything, Run ends, and only a restart makes it usable again.
package audit

import (
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// Defaults and limits of Options.
const (
	DefaultQueueRecords    = 8192
	DefaultQueueBytes      = 64 << 20
	DefaultQueueWait       = 2 * time.Second
	DefaultPoisonLinger    = 30 * time.Second
	DefaultMonitorInterval = 5 * time.Second
	DefaultMinFreeBytes    = 256 << 20

	// MaxGroupRecords and MaxGroupBytes bound what is made durable in one step.
	MaxGroupRecords = 1024
	MaxGroupBytes   = 4 << 20
)

// Durability says when Append returns.
type Durability string

const (
	// Durable, the default: when the record is on the disk.
	Durable Durability = "durable"
	// Queued: when the record is in the bounded queue. A crash loses what is queued.
	Queued Durability = "queued"
	// Off: at once; only the starts and ends of the program are recorded.
	Off Durability = "off"
)

// Options configure a Log. The zero value of each field is its default.
type Options struct {
	Durability   Durability    // default Durable
	QueueRecords int           // records that may wait, default DefaultQueueRecords
	QueueBytes   int64         // bytes that may wait, default DefaultQueueBytes
	QueueWait    time.Duration // how long a caller without a deadline waits, default DefaultQueueWait
	PoisonLinger time.Duration // how long Run goes on after the log was poisoned, default DefaultPoisonLinger

	// MinFreeBytes is the free space below which appending is refused; below twice
	// as much a warning is logged. Default DefaultMinFreeBytes. It needs Free.
	MinFreeBytes uint64
	// Free returns the free bytes of the file system that holds the log; nil: free
	// space is not watched.
	Free func() (uint64, error)
	// MonitorInterval is the time between two looks at free space and files, default
	// DefaultMonitorInterval.
	MonitorInterval time.Duration

	Version      string // of the program, recorded at start
	ConfigDigest string // of its configuration, recorded at start

	Now    func() time.Time // the wall clock, default time.Now
	Logger zerolog.Logger   // default: silent
}

func (o Options) withDefaults() (Options, error) {
	if o.Durability == "" {
		o.Durability = Durable
	}
	if o.QueueRecords == 0 {
		o.QueueRecords = DefaultQueueRecords
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.QueueWait == 0 {
		o.QueueWait = DefaultQueueWait
	}
	if o.PoisonLinger == 0 {
		o.PoisonLinger = DefaultPoisonLinger
	}
	if o.MonitorInterval == 0 {
		o.MonitorInterval = DefaultMonitorInterval
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = DefaultMinFreeBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Durability != Durable && o.Durability != Queued && o.Durability != Off:
		return o, fmt.Errorf("audit durability %q: want durable, queued or off", o.Durability)
	case o.QueueRecords < 0 || o.QueueBytes < 0:
		return o, errors.New("audit queue: negative bound")
	case o.QueueWait < 0 || o.PoisonLinger < 0 || o.MonitorInterval < 0:
		return o, errors.New("audit: negative duration")
	}
	return o, nil
}
