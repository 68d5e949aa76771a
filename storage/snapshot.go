package storage

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// SnapshotFormat is the format version that SnapshotWriter writes. In it, all
// numbers big-endian:
//
//	snapshot = "verdict-state\n", format u32, created i64, { bucket }, end
//	bucket   = "B", length u8, name, entry, { entry }
//	entry    = "E", length u16, key, expires i64, length u32, value
//	end      = "Z", number of entries u64, SHA-256 of all bytes before
//
// Times are microseconds since 1970, expires 0 is never. Buckets and the keys
// of a bucket ascend, so that the same entries give the same bytes.
const SnapshotFormat = 1

const (
	snapshotMagic = "verdict-state\n"
	frameBucket   = 'B'
	frameEntry    = 'E'
	frameEnd      = 'Z'

	maxMicros = 253402300799999999 // the end of the year 9999
)

// SnapshotWriter writes a snapshot. It belongs to one goroutine.
type SnapshotWriter struct {
	out   *bufio.Writer
	sum   hash.Hash
	buf   []byte
	order order
	err   error
}

// order is the place in a snapshot.
type order struct {
	bucket, key string
	entries     uint64
}

// next checks that the entry follows, and moves on; fresh: its bucket starts.
func (o *order) next(bucket, key string) (fresh bool, err error) {
	if err := CheckBucket(bucket); err != nil {
		return false, err
	}
	if err := CheckKey(key); err != nil {
		return false, err
	}
	fresh = bucket != o.bucket
	if bucket < o.bucket || !fresh && key <= o.key {
		return false, fmt.Errorf("key %q of bucket %s does not follow key %q of %s: %w", key, bucket, o.key, o.bucket, ErrInvalid)
	}
	o.bucket, o.key = bucket, key
	o.entries++
	return fresh, nil
}

// NewSnapshotWriter starts a snapshot of that time.
func NewSnapshotWriter(w io.Writer, created time.Time) *SnapshotWriter {
	s := &SnapshotWriter{out: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	s.buf = append(s.buf, snapshotMagic...)
	s.buf = binary.BigEndian.AppendUint32(s.buf, SnapshotFormat)
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(created.UnixMicro()))
	s.write(s.buf)
	return s
}

func (s *SnapshotWriter) write(b []byte) {
	if s.err == nil {
		s.sum.Write(b)
		_, s.err = s.out.Write(b)
	}
}

// Add writes an entry, without its revision. Buckets, and the keys of each,
// must ascend.
func (s *SnapshotWriter) Add(bucket string, e Entry) error {
	if s.err != nil {
		return s.err
	}
	fresh, err := s.order.next(bucket, e.Key)
	if err == nil {
		err = CheckExpiry(e.Expires)
	}
	if err == nil && len(e.Value) > MaxValue {
		err = fmt.Errorf("key %q: value of %d bytes: %w", e.Key, len(e.Value), ErrInvalid)
	}
	if err != nil {
		s.err = err
		return err
	}
	s.buf = s.buf[:0]
	if fresh {
		s.buf = append(s.buf, frameBucket, byte(len(bucket)))
		s.buf = append(s.buf, bucket...)
	}
	s.buf = append(s.buf, frameEntry)
	s.buf = binary.BigEndian.AppendUint16(s.buf, uint16(len(e.Key)))
	s.buf = append(s.buf, e.Key...)
	var expires int64
	if !e.Expires.IsZero() {
		expires = e.Expires.UnixMicro()
	}
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(expires))
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(len(e.Value)))
	s.write(s.buf)
	s.write(e.Value)
	return s.err
}

// Close writes the end. Without it the snapshot counts as cut off.
func (s *SnapshotWriter) Close() error {
	s.write(binary.BigEndian.AppendUint64([]byte{frameEnd}, s.order.entries))
	if s.err != nil {
		return s.err
	}
	if _, s.err = s.out.Write(s.sum.Sum(nil)); s.err == nil {
		s.err = s.out.Flush()
	}
	return s.err
}

// SnapshotReader reads a snapshot. Nothing that it gave is to be relied on
// before Next has returned io.EOF. It belongs to one goroutine.
type SnapshotReader struct {
	in      *bufio.Reader
	sum     hash.Hash
	created time.Time
	order   order
	err     error
}

// NewSnapshotReader reads the start of a snapshot: ErrFormat when its format is
// newer than SnapshotFormat.
func NewSnapshotReader(r io.Reader) (*SnapshotReader, error) {
	s := &SnapshotReader{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	magic := s.take(len(snapshotMagic))
	if s.err == nil && string(magic) != snapshotMagic {
		return nil, damage("this is no snapshot")
	}
	format := s.number(4)
	if s.err == nil && format > SnapshotFormat {
		return nil, fmt.Errorf("snapshot of format version %d, this program knows versions up to %d: %w", format, SnapshotFormat, ErrFormat)
	}
	created := s.number(8)
	switch {
	case s.err != nil:
		return nil, s.err
	case format == 0:
		return nil, damage("snapshot of format version 0")
	}
	s.created = time.UnixMicro(int64(created)).UTC()
	return s, nil
}

// Created is the time that the writer gave.
func (s *SnapshotReader) Created() time.Time { return s.created }

// Next returns the next entry and its bucket. At the end it returns io.EOF if
// the whole snapshot was as written and nothing follows it, else ErrDamaged.
func (s *SnapshotReader) Next() (bucket string, e Entry, err error) {
	if s.err == nil {
		bucket, e = s.next()
	}
	if s.err != nil {
		return "", Entry{}, s.err
	}
	return bucket, e, nil
}

func (s *SnapshotReader) next() (string, Entry) {
	bucket, kind := s.order.bucket, s.number(1)
	if kind == frameBucket {
		bucket = string(s.take(int(s.number(1))))
		kind = s.number(1)
		if s.err == nil && (kind != frameEntry || bucket == s.order.bucket) {
			s.err = damage("bucket %q is empty or starts twice", bucket)
		}
	}
	switch {
	case s.err != nil:
	case kind == frameEntry:
		return bucket, s.entry(bucket)
	case kind == frameEnd:
		s.end()
	default:
		s.err = damage("frame of kind %#x after entry %d", kind, s.order.entries)
	}
	return "", Entry{}
}

func (s *SnapshotReader) entry(bucket string) Entry {
	e := Entry{Key: string(s.take(int(s.number(2))))}
	expires := s.number(8)
	size := s.number(4)
	if s.err != nil {
		return e
	}
	if _, err := s.order.next(bucket, e.Key); err != nil {
		s.err = damage("entry %d: %w", s.order.entries, err)
	} else if expires > maxMicros || size > MaxValue {
		s.err = damage("key %q of bucket %s: expiry %d, %d bytes", e.Key, bucket, expires, size)
	} else if e.Value = s.take(int(size)); expires != 0 {
		e.Expires = time.UnixMicro(int64(expires)).UTC()
	}
	return e
}

// end checks the end, after its kind was read.
func (s *SnapshotReader) end() {
	count := s.number(8)
	want := s.sum.Sum(nil)
	got := s.take(len(want))
	if s.err != nil {
		return
	}
	_, err := s.in.ReadByte()
	switch {
	case count != s.order.entries:
		s.err = damage("%d entries, the snapshot says %d", s.order.entries, count)
	case string(got) != string(want):
		s.err = damage("wrong checksum")
	case err == nil:
		s.err = damage("something follows the snapshot")
	case !errors.Is(err, io.EOF):
		s.err = fmt.Errorf("read snapshot: %w", err)
	default:
		s.err = io.EOF
	}
}

// take reads n bytes, all or none.
func (s *SnapshotReader) take(n int) []byte {
	if s.err != nil {
		return nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.in, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.err = damage("cut off after entry %d", s.order.entries)
	} else if err != nil {
		s.err = fmt.Errorf("read snapshot: %w", err)
	}
	if s.err != nil {
		return nil
	}
	s.sum.Write(b)
	return b
}

// number reads a number of n bytes, or 0.
func (s *SnapshotReader) number(n int) uint64 {
	var b [8]byte
	copy(b[8-n:], s.take(n))
	return binary.BigEndian.Uint64(b[:])
}

func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}
