package audit

import (
	"context"
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// Store keeps the log. One implementation is storage/segment; a journal in front
// of it would be another. The suite in audit/storetest states what every one
// must do.
type Store interface {
	Appender
	Reader

	// Inspect reports what the log occupies. It returns an error when the files that
	// the store writes are no longer those that a restart would find (deleted or
	// replaced). It is called every few seconds, beside Append.
	Inspect() (Inspection, error)

	// Close releases everything. No other method is running or will be called.
	Close() error
}

// Appender is the writing half of a Store. One goroutine calls it.
type Appender interface {
	// Position returns where the log ends, as a restart would find it.
	Position() Position

	// Room returns how many records the next batch may hold at most; at least 1.
	Room() uint64

	// Append makes the batch durable as a whole before it returns nil. After an
	// error it is unknown whether the batch is in the log, but never a part of it,
	// and no further Append follows. The batch and its bytes belong to the caller
	// again when Append returns.
	Append(*Batch) error
}

// Reader is the reading half of a Store. Its methods may be called at any time by
// any goroutine, also beside Append, and see what was durable when they began.
// The bytes that they return are the caller's.
type Reader interface {
	// Record returns the bytes of one record, or ErrNotFound.
	Record(seq uint64) ([]byte, error)

	// Blob returns the bytes with that SHA-256, or ErrNotFound.
	Blob(sum chain.Hash) ([]byte, error)

	// Scan calls fn for every record from seq on, in order, until the end of the
	// log, an error of fn, which it returns, or the end of ctx. rec is valid during
	// the call only. It holds nothing in the store while fn runs.
	Scan(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error

	// Search returns the first record that match accepts among those whose time may
	// lie in [from, to], or ErrNotFound.
	Search(ctx context.Context, from, to time.Time, match func(rec []byte) bool) (seq uint64, rec []byte, err error)

	// Window returns the narrowest range of sequence numbers [first, next) it can
	// tell without reading every record, outside of which no record has a time in
	// [from, to]. It is empty, with first equal to next, when there is none.
	Window(ctx context.Context, from, to time.Time) (first, next uint64, err error)
}

// Position is where a log ends.
type Position struct {
	Origin string
	Next   uint64     // the sequence number of the next record
	Head   chain.Hash // of the chain; the genesis head when Next is 0
	Tree   chain.Tree
	Time   time.Time // of record Next-1, in microseconds; the zero time when Next is 0
}

// Batch is what one Append makes durable.
type Batch struct {
	First    uint64
	Records  [][]byte     // numbered from First on
	Leaves   []chain.Hash // of the records, by which a verifier finds the one that was changed
	Blobs    []Blob
	Tiles    []Tile
	Segments []Segment
	After    Position // where the log ends with this batch
}

// Blob is a value too large for a record, kept under its hash.
type Blob struct {
	Sum   chain.Hash
	Bytes []byte
}

// Tile is a block of chain.TileSize records that a batch completes.
type Tile struct {
	Number uint64     // of the block: sequence number / chain.TileSize
	Head   chain.Hash // of the chain after the block
	Root   chain.Hash // of the block's leaves
}

// Segment is a run of chain.SegmentSize records that a batch completes.
type Segment struct {
	Number      uint64
	First, Last time.Time  // of its first and last record
	Head        chain.Hash // of the chain after the segment
	Root        chain.Hash // of the segment's leaves
}

// Inspection is what a log occupies.
type Inspection struct {
	Files []File
	Used  uint64 // bytes in use, without what files hold in reserve
}

// File is a file of the log.
type File struct {
	Name   string `json:"name"`
	Size   uint64 `json:"size"`
	Sealed bool   `json:"sealed"`
}
