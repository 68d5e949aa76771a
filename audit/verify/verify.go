// Package verify checks an audit log: it reads every record, computes every hash
// anew and compares them with what the log says about itself. It shares no code
// with the writer but the hash functions of audit/chain, and it trusts nothing it
// reads.
//
// docs/audit-verify.md lists what is checked and what cannot be noticed.
package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// ErrEmpty is returned when there is no log to verify: no file, or no record. It
// is not a result, since a log that was wiped out looks the same.
var ErrEmpty = errors.New("the log is empty")

// Source gives what a log holds. Its files are numbered; file N holds the records
// from N*2^20 on, in buckets of entries (docs/audit-verify.md).
//
// An error that has, somewhere in its chain, the method Damage() string tells
// that the file itself does not hold together; the string is the kind,
// "page_damaged" or "file_truncated". Any other error means that the log could
// not be looked at, and ends the verification without a result. A Source may also
// panic or fault while it reads a mapped file: that counts as page_damaged.
//
// A Source is called by one goroutine at a time. When the log may grow meanwhile,
// set Options.Live: then it need not show one state, but must never show an entry
// of bucket meta that is newer than the entries of other buckets shown later.
type Source interface {
	// Files returns the numbers of the files, ascending.
	Files(ctx context.Context) ([]uint64, error)

	// Inspect checks a file as a container and returns the names of its buckets.
	// Names and an error with Damage may come together: the file can be read, wholly
	// or in part, and is damaged.
	Inspect(ctx context.Context, file uint64) (buckets []string, err error)

	// Walk calls fn for every entry of a bucket of a file, in the order of the keys,
	// each key once, until the end, an error of fn (which it returns, or wraps) or
	// the end of ctx. A bucket that does not exist has no entries. Key and value are
	// valid during the call only; fn does not call the Source.
	Walk(ctx context.Context, file uint64, bucket string, fn func(key, value []byte) error) error
}

// Options of Run. The zero value verifies a log at rest.
type Options struct {
	// Live says that records may be appended while the log is verified. What lies
	// behind the end that a file states when it is first looked at is left alone.
	Live bool
	// Progress is called after every 65,536 records with the number of records read
	// and, as far as known, of all; nil: not called.
	Progress func(read, total uint64)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// layout is the shape of a log: records in a tile, a segment and a file, as
// powers of two.
type layout struct{ tile, segment, file int }

const fileBits = 20

// Run verifies a log from its first record to its last. The error is nil whenever
// the log could be looked at, whatever was found; it is ErrEmpty, an error of the
// Source, or that of ctx. The memory that Run needs does not depend on the size of
// the log, but for 40 bytes a record of one file that has its input in a blob.
func Run(ctx context.Context, src Source, o Options) (Report, error) {
	return runLayout(ctx, src, o, layout{tile: chain.TileLevel, segment: chain.SegmentLevel, file: fileBits})
}

func runLayout(ctx context.Context, src Source, o Options, lay layout) (Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	// A fault in a file that the Source has mapped becomes a panic, see guard.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	start := o.Now()
	r := &run{ctx: ctx, src: guard{src}, opts: o, lay: lay}
	r.rep.Errors, r.rep.Warnings = []Finding{}, []string{}
	r.pool.start()
	err := r.log()
	r.pool.stop()
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	r.rep.conclude()
	if r.rep.Result == OK {
		whole := r.wholeTree()
		r.rep.Head, r.rep.Root = r.head.String(), whole.Root().String()
	}
	if d := o.Now().Sub(start).Seconds(); d > 0 {
		r.rep.DurationSeconds, r.rep.RecordsPerSecond = d, float64(r.read)/d
	}
	return r.rep, nil
}

// damage is an error that tells of a damaged file.
type damage interface {
	error
	Damage() string
}

// asDamage returns the kind of finding for an error of the Source.
func asDamage(err error) (kind string, ok bool) {
	var d damage
	if !errors.As(err, &d) {
		return "", false
	}
	if d.Damage() == KindFileTruncated {
		return KindFileTruncated, true
	}
	return KindPageDamaged, true
}

// guard turns panics and faults of a Source into errors.
type guard struct{ src Source }

type panicError struct{ value any }

func (e *panicError) Error() string  { return fmt.Sprintf("reading the file failed: %v", e.value) }
func (e *panicError) Damage() string { return KindPageDamaged }

func (g guard) Files(ctx context.Context) (n []uint64, err error) {
	defer caught(&err)
	return g.src.Files(ctx)
}

func (g guard) Inspect(ctx context.Context, file uint64) (names []string, err error) {
	defer caught(&err)
	return g.src.Inspect(ctx, file)
}

func (g guard) Walk(ctx context.Context, file uint64, bucket string, fn func(key, value []byte) error) (err error) {
	defer caught(&err)
	return g.src.Walk(ctx, file, bucket, fn)
}

func caught(err *error) {
	if v := recover(); v != nil {
		*err = &panicError{v}
	}
}
