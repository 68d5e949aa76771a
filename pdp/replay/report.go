package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Kind is what is different about a decision.
type Kind string

// The kinds of flips. Whatever does not allow is a denial: false, an undefined
// result, an error, and a result that is no decision at all.
const (
	DenyToAllow Kind = "deny_to_allow"
	AllowToDeny Kind = "allow_to_deny"
	Changed     Kind = "changed"    // it allows as before, or denies as before, with another result
	ToError     Kind = "to_error"   // the candidate fails
	FromError   Kind = "from_error" // the recorded evaluation failed, and the candidate denies
)

// Report is the outcome of a replay. The same decisions on the same candidate
// give the same report.
type Report struct {
	From *time.Time `json:"from,omitempty"` // as asked for
	To   *time.Time `json:"to,omitempty"`
	// Limit is how many decisions were looked at at most, and Limited tells that
	// there may have been more.
	Limit   int      `json:"limit"`
	Limited bool     `json:"limited"`
	Paths   []string `json:"paths,omitempty"`
	// Bundles are the candidate's revisions, by name.
	Bundles json.RawMessage `json:"bundles"`

	First *Place `json:"first,omitempty"` // the oldest decision that was looked at
	Last  *Place `json:"last,omitempty"`  // the newest

	// Decisions is how many records of decisions were looked at. Each is one of
	// those replayed, not replayable, skipped, and of other paths.
	Decisions  uint64 `json:"decisions"`
	Replayed   uint64 `json:"replayed"`
	OtherPaths uint64 `json:"other_paths,omitempty"`
	// NotReplayable and Skipped count by the reasons of this package.
	NotReplayable Counts `json:"not_replayable"`
	Skipped       Counts `json:"skipped"`
	// Unrecorded is how many of the replayed asked for chance that their record
	// does not hold, since the recorded evaluation did not: another run of the
	// candidate might decide otherwise.
	Unrecorded uint64 `json:"unrecorded,omitempty"`

	Flips  Flips  `json:"flips"`
	Groups Groups `json:"groups"`
}

// Place is a record in the log.
type Place struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
}

// Counts are numbers by reason, and their sum.
type Counts struct {
	Count   uint64            `json:"count"`
	Reasons map[string]uint64 `json:"reasons,omitempty"`
}

func (c *Counts) add(reason string) {
	if c.Reasons == nil {
		c.Reasons = map[string]uint64{}
	}
	c.Count++
	c.Reasons[reason]++
}

// Flips are the decisions that come out otherwise.
type Flips struct {
	Count uint64          `json:"count"`
	Kinds map[Kind]uint64 `json:"kinds,omitempty"`
	// List has the newest ones, the newest first.
	List []Flip `json:"list"`
	// More tells that there are more than the list has.
	More bool `json:"more"`
}

// Flip is a decision that comes out otherwise.
type Flip struct {
	DecisionID string    `json:"decision_id"`
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Path       string    `json:"path"`
	Kind       Kind      `json:"kind"`
	Old        Answer    `json:"old"`
	New        Answer    `json:"new"`
	// Unrecorded is Report.Unrecorded's.
	Unrecorded bool `json:"unrecorded,omitempty"`

	roles, reasons []string
	resource       string
}

// Answer is a result, masked as in the log; a long one is replaced by its size.
type Answer struct {
	Result    json.RawMessage `json:"result,omitempty"`
	Undefined bool            `json:"undefined,omitempty"`
	Error     string          `json:"error,omitempty"` // the code alone
}

// Groups count the flips by what they have in common, the most frequent first. A
// decision of a subject with several roles, or with several reasons, counts for
// each. The reasons are those of the denial, the recorded one where there is one.
type Groups struct {
	Path         []Group `json:"path"`
	Role         []Group `json:"role"`
	ResourceType []Group `json:"resource_type"`
	Reason       []Group `json:"reason"`
}

// Group is one value and the flips that have it. "(none)" stands for those
// without a value, "(other)" for values beyond the bound.
type Group struct {
	Value string          `json:"value"`
	Count uint64          `json:"count"`
	Kinds map[Kind]uint64 `json:"kinds"`
}

// Sum returns the SHA-256 of the report in hex: of its JSON text with the members
// of each object sorted by name and without white space.
func (r *Report) Sum() (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	return SumOf(raw)
}

// SumOf is Report.Sum of an encoded report.
func SumOf(raw []byte) (string, error) {
	v, err := decode(raw)
	if err != nil {
		return "", fmt.Errorf("decode report: %w", err)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	sum := sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return hex.EncodeToString(sum[:]), nil
}
