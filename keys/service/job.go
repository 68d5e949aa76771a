package service

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage"
)

var (
	// ErrNoJob is returned when there is no such job of the key.
	ErrNoJob = errors.New("job_unknown")
	// ErrJobClosed is returned for a batch of a job that was finished.
	ErrJobClosed = errors.New("job_closed")
	// ErrTooManyJobs is returned when maxJobs of a key are open.
	ErrTooManyJobs = errors.New("jobs_too_many")
	// ErrJobIncomplete is returned when a job is to be finished and values are
	// missing or failed.
	ErrJobIncomplete = errors.New("job_incomplete")
	// ErrBatchOrder is returned when a batch does not follow the one before.
	ErrBatchOrder = errors.New("batch_out_of_order")
	// ErrOtherKey is returned for a value that is under another key than its job.
	ErrOtherKey = errors.New("key_mismatch")
	// ErrUnverified is returned for a value whose new ciphertext does not open to
	// the same plaintext.
	ErrUnverified = errors.New("verification_failed")
)

const (
	jobPart    = "job" // first part of the store's keys
	jobRetries = 10
	maxJobs    = 100    // of one key, open at a time; each is named in the key's state
	macSuffix  = "-mac" // of the key that makes the MACs of another one's values
)

// JobStore keeps jobs; it is a part of storage.Bucket, whose words hold.
type JobStore interface {
	Get(ctx context.Context, key string) (storage.Entry, error)
	List(ctx context.Context, prefix, cursor string, limit int) (storage.Page, error)
	Apply(ctx context.Context, ops ...storage.Op) ([]uint64, error)
}

// JobRecorder takes the beginning and the end of jobs into the audit log. An
// error means that nothing was recorded: the job does not begin or end then.
type JobRecorder interface {
	RecordJob(ctx context.Context, j Job, by keys.By) error
}

// JobState is how far a job is.
type JobState string

// The states.
const (
	JobOpen      JobState = "open"
	JobFinished  JobState = "finished"
	JobAbandoned JobState = "abandoned" // ended though values are missing or failed
)

// Job counts the values of a key that are encrypted anew. While it is open the
// old versions of the key are not retired, since callers hold the ciphertexts.
type Job struct {
	ID    string   `json:"id"`
	KeyID string   `json:"key_id"`
	State JobState `json:"state"`
	// Version that values must reach: the latest when the job began.
	Version uint32 `json:"version"`
	// MACVersion that their MACs must reach, where they have some.
	MACVersion uint32 `json:"mac_version,omitempty"`
	// Total is how many values there are; 0: unknown.
	Total int64 `json:"total,omitempty"`
	// Done counts values that were encrypted anew and verified, Current those that
	// needed nothing, Failed those that did not open.
	Done    int64 `json:"done"`
	Current int64 `json:"current"`
	Failed  int64 `json:"failed"`
	// Batch is the number of the last batch that was counted, of those that have
	// one.
	Batch  uint64    `json:"batch"`
	By     string    `json:"by,omitempty"`
	Opened time.Time `json:"opened"`
	Ended  time.Time `json:"ended,omitzero"`

	revision uint64
}

// complete tells whether nothing is missing.
func (j *Job) complete() bool {
	if j.Total > 0 {
		return j.Done+j.Current >= j.Total
	}
	return j.Failed == 0
}

// Jobs are the re-encryption jobs. They survive a restart.
type Jobs struct {
	service  *Service
	store    JobStore
	recorder JobRecorder
}

// NewJobs returns the jobs that are kept in store.
func NewJobs(s *Service, store JobStore, recorder JobRecorder) *Jobs {
	return &Jobs{service: s, store: store, recorder: recorder}
}

// Open begins a job for a key, whose old versions are held from then on. Total
// may be 0. ErrTooManyJobs; keys.ErrBusy while versions of the key are being retired.
func (j *Jobs) Open(ctx context.Context, a *Asker, keyID string, total int64) (Job, error) {
	info, err := j.service.ring.Key(ctx, keyID)
	if err != nil {
		return Job{}, err
	}
	if info.Class == 0 || info.Type == keys.HMAC {
		return Job{}, fmt.Errorf("no values are encrypted under %s: %w", keyID, keys.ErrUnsupported)
	}
	if err := j.room(ctx, keyID); err != nil {
		return Job{}, err
	}
	mac, err := j.service.ring.Key(ctx, keyID+macSuffix)
	if err != nil && !errors.Is(err, keys.ErrKeyUnknown) {
		return Job{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Job{}, fmt.Errorf("name the job: %w", err)
	}
	job := Job{
		ID: id.String(), KeyID: keyID, State: JobOpen, Version: info.Latest, MACVersion: mac.Latest, Total: total,
		By: a.Caller, Opened: j.service.o.Now().UTC().Truncate(time.Microsecond),
	}
	if err := j.recorder.RecordJob(ctx, job, a.by("")); err != nil {
		return Job{}, fmt.Errorf("record the job: %w", err)
	}
	// The job is written first: Reconcile gives a job its hold, and takes none
	// away for which there is no job.
	if err := j.save(ctx, &job); err != nil {
		return Job{}, err
	}
	if err := j.hold(ctx, &job); err != nil {
		_, end := j.Finish(context.WithoutCancel(ctx), a, keyID, job.ID, true)
		return Job{}, errors.Join(err, end)
	}
	return job, nil
}

// room refuses a job where too many are open.
func (j *Jobs) room(ctx context.Context, keyID string) error {
	jobs, err := j.List(ctx, keyID)
	if err != nil {
		return err
	}
	jobs = slices.DeleteFunc(jobs, func(job Job) bool { return job.State != JobOpen })
	if len(jobs) >= maxJobs {
		return fmt.Errorf("%d jobs of key %s are open: %w", len(jobs), keyID, ErrTooManyJobs)
	}
	return nil
}

// hold holds the key, and the one that makes the MACs of its values, which need
// the old versions of both.
func (j *Jobs) hold(ctx context.Context, job *Job) error {
	for _, id := range []string{job.KeyID, job.KeyID + macSuffix} {
		if err := j.service.ring.Hold(ctx, id, job.ID); err != nil {
			return fmt.Errorf("hold key %s: %w", id, err)
		}
	}
	return nil
}

func (j *Jobs) release(ctx context.Context, job *Job) error {
	for _, id := range []string{job.KeyID, job.KeyID + macSuffix} {
		if err := j.service.ring.Release(ctx, id, job.ID); err != nil {
			return fmt.Errorf("release key %s: %w", id, err)
		}
	}
	return nil
}

// Get gives a job of a key.
func (j *Jobs) Get(ctx context.Context, keyID, id string) (Job, error) {
	job, err := j.load(ctx, id)
	if err == nil && job.KeyID != keyID {
		return Job{}, ErrNoJob
	}
	return job, err
}

// List gives the jobs of a key, or of all when it is empty, the latest first.
func (j *Jobs) List(ctx context.Context, keyID string) ([]Job, error) {
	jobs := []Job{}
	cursor := ""
	for {
		page, err := j.store.List(ctx, storage.Prefix(jobPart), cursor, 0)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		for _, e := range page.Entries {
			job, err := read(e)
			if err != nil {
				return nil, err
			}
			if keyID == "" || job.KeyID == keyID {
				jobs = append(jobs, job)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			slices.SortFunc(jobs, func(a, b Job) int { return strings.Compare(b.ID, a.ID) })
			return jobs, nil
		}
	}
}

// Finish ends a job and lets the key go: ErrJobIncomplete when values are missing
// or failed, unless it is abandoned. To finish again is no error.
func (j *Jobs) Finish(ctx context.Context, a *Asker, keyID, id string, abandon bool) (Job, error) {
	recorded := false
	job, err := j.change(ctx, id, func(job *Job) error {
		switch {
		case job.KeyID != keyID:
			return ErrNoJob
		case job.State != JobOpen:
			return nil
		case job.complete():
			job.State = JobFinished
		case !abandon:
			return ErrJobIncomplete
		default:
			job.State = JobAbandoned
		}
		job.Ended = j.service.o.Now().UTC().Truncate(time.Microsecond)
		if recorded {
			return nil
		}
		recorded = true
		return j.recorder.RecordJob(ctx, *job, a.by(""))
	})
	if err != nil {
		return job, err
	}
	return job, j.release(ctx, &job)
}

// Reconcile gives each open job its hold and takes it from each that ended: a
// crash may have come between. It is called at the start.
func (j *Jobs) Reconcile(ctx context.Context) error {
	jobs, err := j.List(ctx, "")
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if job.State == JobOpen {
			err = errors.Join(err, j.hold(ctx, &job))
		} else {
			err = errors.Join(err, j.release(ctx, &job))
		}
	}
	return err
}

// Batch encrypts values of a job anew, after a decision as Reencrypt has it, and
// counts them. Each new ciphertext is opened again and compared. A value that
// needs nothing comes back as it is. Batches with numbers from 1 on are counted
// once, however often one is sent; 0: the batch has no number.
func (j *Jobs) Batch(ctx context.Context, a *Asker, id string, number uint64, items []keys.Ciphertext) (*Reencrypted, Job, error) {
	job, err := j.load(ctx, id)
	switch {
	case err != nil:
		return nil, job, err
	case job.State != JobOpen:
		return nil, job, ErrJobClosed
	case number > job.Batch+1:
		return nil, job, ErrBatchOrder
	}
	q := &question{action: "reencrypt", items: items}
	decision, err := j.service.decide(ctx, a, q)
	if err != nil {
		return nil, job, err
	}
	limited, cancel := j.service.bounded(ctx)
	defer cancel()
	results, current, err := j.renew(limited, a.by(decision), &job, items)
	if err != nil {
		return nil, job, inTime(ctx, err)
	}
	for i := range results {
		results[i].Err = inTime(ctx, results[i].Err)
	}
	j.service.metrics.count("reencrypt", len(items), func(i int) (keys.Class, error) { return q.class(i), results[i].Err })
	job, err = j.change(ctx, id, func(job *Job) error { return job.count(number, results, current) })
	if err != nil {
		return nil, job, err
	}
	return &Reencrypted{DecisionID: decision, Results: results}, job, nil
}

// count adds a batch, unless it was counted before.
func (j *Job) count(number uint64, results []keys.Encrypted, current int64) error {
	switch {
	case j.State != JobOpen:
		return ErrJobClosed
	case number > 0 && number <= j.Batch:
		return nil
	case number > j.Batch+1:
		return ErrBatchOrder
	case number > 0:
		j.Batch = number
	}
	for i := range results {
		if results[i].Err != nil {
			j.Failed++
		} else {
			j.Done++
		}
	}
	j.Done -= current
	j.Current += current
	return nil
}

// renew opens values, encrypts those that need it, and opens these again.
func (j *Jobs) renew(ctx context.Context, by keys.By, job *Job, items []keys.Ciphertext) (results []keys.Encrypted, current int64, err error) {
	ring := j.service.ring
	old, err := ring.Decrypt(ctx, by, items)
	if err != nil {
		return nil, 0, err
	}
	defer wipe(old)
	results = make([]keys.Encrypted, len(items))
	var values []keys.Value
	var at []int
	for i, d := range old {
		switch {
		case d.Err != nil:
			results[i].Err = d.Err
		case d.KeyID != job.KeyID:
			results[i].Err = ErrOtherKey
		case d.Version >= job.Version && !job.oldMAC(items[i].Text):
			results[i] = keys.Encrypted{Text: items[i].Text, KeyID: d.KeyID, Version: d.Version}
			current++
		default:
			values, at = append(values, keys.Value{Class: d.Class, Context: items[i].Context, Data: d.Data}), append(at, i)
		}
	}
	sealed, err := ring.Encrypt(ctx, by, values)
	if err != nil {
		return nil, 0, err
	}
	for n, i := range at {
		results[i] = sealed[n]
	}
	return results, current, j.verify(ctx, by, values, at, results)
}

// verify opens the new ciphertexts again and compares them with the values,
// which have the places at among the results.
func (j *Jobs) verify(ctx context.Context, by keys.By, values []keys.Value, at []int, results []keys.Encrypted) error {
	var checks []keys.Ciphertext
	var of []int // the value that a check is of
	for n, i := range at {
		if results[i].Err == nil {
			checks, of = append(checks, keys.Ciphertext{Text: results[i].Text, Context: values[n].Context}), append(of, n)
		}
	}
	again, err := j.service.ring.Decrypt(ctx, by, checks)
	if err != nil {
		return err
	}
	defer wipe(again)
	for c, n := range of {
		if again[c].Err != nil || subtle.ConstantTimeCompare(again[c].Data, values[n].Data) != 1 {
			results[at[n]] = keys.Encrypted{Err: ErrUnverified}
		}
	}
	return nil
}

// oldMAC tells whether a ciphertext has a MAC that the job leaves behind.
func (j *Job) oldMAC(text string) bool {
	h, err := keys.Inspect(text)
	return err == nil && h.MACVersion != 0 && h.MACVersion < j.MACVersion
}

func wipe(all []keys.Decrypted) {
	for i := range all {
		clear(all[i].Data)
	}
}

func (j *Jobs) load(ctx context.Context, id string) (Job, error) {
	if len(id) > storage.MaxKey/4 {
		return Job{}, ErrNoJob
	}
	e, err := j.store.Get(ctx, storage.Key(jobPart, id))
	if errors.Is(err, storage.ErrNotFound) {
		return Job{}, ErrNoJob
	}
	if err != nil {
		return Job{}, fmt.Errorf("read job: %w", err)
	}
	return read(e)
}

func read(e storage.Entry) (Job, error) {
	job := Job{revision: e.Revision}
	if err := json.Unmarshal(e.Value, &job); err != nil {
		return Job{}, fmt.Errorf("read job %s: %w", e.Key, err)
	}
	return job, nil
}

func (j *Jobs) save(ctx context.Context, job *Job) error {
	value, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	if _, err := j.store.Apply(ctx, storage.Replace(storage.Key(jobPart, job.ID), value, job.revision)); err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	return nil
}

// change reads, changes and writes a job, again when somebody else wrote in
// between.
func (j *Jobs) change(ctx context.Context, id string, change func(*Job) error) (Job, error) {
	var job Job
	var err error
	for range jobRetries {
		if job, err = j.load(ctx, id); err != nil {
			return job, err
		}
		if err = change(&job); err != nil {
			return job, err
		}
		if err = j.save(ctx, &job); !errors.Is(err, storage.ErrConflict) {
			return job, err
		}
	}
	return job, err
}
