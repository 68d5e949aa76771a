package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Result is the outcome of a verification.
type Result string

// The results. RolledBack and those that need a checkpoint kept elsewhere are
// never given as long as there are no checkpoints.
const (
	OK           Result = "ok"
	Tampered     Result = "tampered"     // something is not what was recorded
	Truncated    Result = "truncated"    // the log ends before its stated end
	RolledBack   Result = "rolled_back"  // the log is older than a checkpoint
	Unverifiable Result = "unverifiable" // it cannot be told: a newer format, a missing key
	Damaged      Result = "damaged"      // a file does not hold together
)

// ExitCode is the exit code of the command line for the result; 2 stands for a
// log that could not be looked at.
func (r Result) ExitCode() int {
	switch r {
	case OK:
		return 0
	case Tampered:
		return 1
	case Truncated:
		return 3
	case RolledBack:
		return 4
	case Unverifiable:
		return 5
	}
	return 6
}

// The kinds of findings.
const (
	KindRecordAltered   = "record_altered"   // its bytes are not those that were hashed
	KindRecordMissing   = "record_missing"   // no entry under its number
	KindRecordSwapped   = "record_swapped"   // it bears another record's number
	KindRecordExtra     = "record_extra"     // a number behind the stated end, or twice
	KindRecordMalformed = "record_malformed" // not a record: prefix, JSON, size, genesis
	KindKeyForeign      = "key_foreign"      // an entry that has no place in its bucket
	KindTimeWentBack    = "time_went_back"   // without a clock step
	KindTile            = "tile_mismatch"
	KindSegment         = "segment_mismatch"
	KindHead            = "head_mismatch"
	KindMeta            = "meta_mismatch"
	KindBlobAltered     = "blob_altered"
	KindBlobMissing     = "blob_missing"
	KindFileMissing     = "file_missing"
	KindFileTruncated   = "file_truncated" // the file is shorter than its pages need
	KindPageDamaged     = "page_damaged"   // a page of the file is not one, or not its own
	KindFormatNewer     = "format_newer"   // written by a newer verdict
)

func resultOf(kind string, tail bool) Result {
	switch kind {
	case KindFileTruncated:
		return Truncated
	case KindPageDamaged:
		return Damaged
	case KindFormatNewer:
		return Unverifiable
	case KindRecordMissing:
		if tail {
			return Truncated
		}
	}
	return Tampered
}

// Finding is one thing that is wrong.
type Finding struct {
	// Seq is the record it is about, or the first that it leaves in doubt; Last is
	// the last of them, equal to Seq when one record is named.
	Seq    uint64 `json:"seq"`
	Last   uint64 `json:"last_seq"`
	Kind   string `json:"kind"`
	File   string `json:"file,omitempty"`
	Detail string `json:"detail"`

	result Result
}

func (f Finding) String() string {
	where := fmt.Sprintf("record %d", f.Seq)
	if f.Last > f.Seq {
		where = fmt.Sprintf("records %d to %d", f.Seq, f.Last)
	}
	if f.File != "" {
		where += " in " + f.File
	}
	return fmt.Sprintf("%s, %s: %s", where, f.Kind, f.Detail)
}

const (
	// maxFindings bounds what a report lists; all are counted.
	maxFindings = 100
	// keptFindings bounds what is kept until the first of them are known.
	keptFindings = 4096
)

// Report is what a verification found. Its JSON is part of the command line's
// and the API's contract.
type Report struct {
	Result Result `json:"result"`
	// FirstBadSeq, Kind, File and Detail are those of the first finding of the
	// result; FirstBadSeq is nil when the result is ok.
	FirstBadSeq *uint64 `json:"first_bad_seq"`
	Kind        string  `json:"kind"`
	File        string  `json:"file"`
	Detail      string  `json:"detail"`

	IsValid        bool   `json:"is_valid"`
	TotalEvents    uint64 `json:"total_events"`    // records that the log says it holds
	VerifiedEvents uint64 `json:"verified_events"` // records whose bytes match what was stored
	HashChainValid bool   `json:"hash_chain_valid"`
	// SignatureValid is nil: the log bears no signatures yet.
	SignatureValid *bool     `json:"signature_valid"`
	Errors         []Finding `json:"errors"`
	ErrorsTotal    int       `json:"errors_total"` // Errors holds the first 100
	Warnings       []string  `json:"warnings"`

	Origin string `json:"origin"`
	// Head and Root are the chain head and the tree root after the last record, in
	// hexadecimal, when the result is ok. Who keeps them can tell later whether the
	// log was cut or rewritten.
	Head string `json:"head"`
	Root string `json:"root"`

	Files            int     `json:"files"`
	Bytes            uint64  `json:"bytes"` // of records and blobs that were read
	DurationSeconds  float64 `json:"duration_seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
}

// Text returns the report for people. The first line names the result, the first
// bad sequence number and the kind.
func (r *Report) Text() string {
	var b strings.Builder
	if r.FirstBadSeq == nil {
		fmt.Fprintf(&b, "%s: %d records verified\n", r.Result, r.VerifiedEvents)
	} else {
		fmt.Fprintf(&b, "%s: first bad record %d: %s: %s\n", r.Result, *r.FirstBadSeq, r.Kind, r.Detail)
	}
	fmt.Fprintf(&b, "  origin    %s\n", r.Origin)
	fmt.Fprintf(&b, "  records   %d, verified %d, in %d files\n", r.TotalEvents, r.VerifiedEvents, r.Files)
	if r.Head != "" {
		fmt.Fprintf(&b, "  head      %s\n  root      %s\n", r.Head, r.Root)
	}
	fmt.Fprintf(&b, "  took      %v, %.0f records/s\n",
		time.Duration(r.DurationSeconds*float64(time.Second)).Round(time.Millisecond), r.RecordsPerSecond)
	for _, f := range r.Errors {
		fmt.Fprintf(&b, "  error     %v\n", f)
	}
	if more := r.ErrorsTotal - len(r.Errors); more > 0 {
		fmt.Fprintf(&b, "  error     and %d more\n", more)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "  warning   %s\n", w)
	}
	return b.String()
}

// add notes a finding. Neighbours that bear other numbers are one, as after an
// insertion.
func (r *Report) add(f Finding) {
	if n := len(r.Errors); n > 0 && f.Kind == KindRecordSwapped {
		if last := &r.Errors[n-1]; last.Kind == f.Kind && last.File == f.File && last.Last+1 == f.Seq {
			last.Last = f.Last
			return
		}
	}
	r.ErrorsTotal++
	if len(r.Errors) < keptFindings {
		r.Errors = append(r.Errors, f)
	}
}

// conclude fills what follows from the findings. Proof of a change outweighs a
// missing end, that a damaged file, that a format that cannot be read.
func (r *Report) conclude() {
	r.Result, r.IsValid, r.HashChainValid = OK, true, true
	slices.SortStableFunc(r.Errors, func(a, b Finding) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, want := range []Result{Tampered, Truncated, Damaged, Unverifiable} {
		i := slices.IndexFunc(r.Errors, func(f Finding) bool { return f.result == want })
		if i >= 0 {
			f := narrowest(r.Errors[i:])
			r.Result, r.IsValid = want, false
			r.FirstBadSeq, r.Kind, r.File, r.Detail = &f.Seq, f.Kind, f.File, f.Detail
			break
		}
	}
	for _, f := range r.Errors {
		switch f.Kind {
		case KindTimeWentBack, KindBlobAltered, KindBlobMissing, KindKeyForeign:
		default:
			r.HashChainValid = false
		}
	}
	if len(r.Errors) > maxFindings {
		r.Errors = slices.Clone(r.Errors[:maxFindings])
	}
}

// narrowest returns the first of the findings, or one of the same result that
// lies within its range and says more exactly where.
func narrowest(findings []Finding) Finding {
	best := findings[0]
	for _, f := range findings[1:] {
		if f.Seq > best.Last {
			break // they are sorted
		}
		if f.result == best.result && f.Last <= best.Last && f.Last-f.Seq < best.Last-best.Seq {
			best = f
		}
	}
	return best
}
