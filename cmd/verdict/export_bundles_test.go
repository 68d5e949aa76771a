package main

import (
	"io"
	"time"
)

// Progress is the line that tells how much is sent.
type Progress struct{ *progress }

// NewProgress gives one that writes to w.
func NewProgress(w io.Writer, label string, total int64, now func() time.Time) Progress {
	return Progress{&progress{w: w, now: now, label: label, total: total}}
}

// Reader counts what is read from r.
func (p Progress) Reader(r io.Reader) io.Reader { return p.reader(r) }

// End takes the line away.
func (p Progress) End() { p.end() }
