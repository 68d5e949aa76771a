package service_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

// jobLog keeps what jobs record.
type jobLog struct {
	mu     sync.Mutex
	states []service.JobState
	err    error
}

func (l *jobLog) RecordJob(_ context.Context, j service.Job, _ keys.By) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.states = append(l.states, j.State)
	}
	return l.err
}

// corpus is values under a key that was compromised since.
func corpus(t *testing.T, r *encryptiontest.Rig, class keys.Class, n int) []keys.Ciphertext {
	t.Helper()
	var items []keys.Ciphertext
	for i := range n {
		c := at(fmt.Sprintf("/v/%d", i))
		items = append(items, keys.Ciphertext{Text: encrypt(t, r, class, c, []byte(fmt.Sprint("value ", i))), Context: c})
	}
	if _, err := r.Ring.Compromise(t.Context(), keys.By{}, r.Ring.ClassID(class), 0); err != nil {
		t.Fatal(err)
	}
	return items
}

// TestCompromisedKeyIsLeft encrypts a corpus anew, in batches of which one is
// sent twice over a restart, finishes, and retires the old version.
func TestCompromisedKeyIsLeft(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	asker, log := encryptiontest.Asker(), &jobLog{}
	jobs := service.NewJobs(r.Service, r.Store, log)
	for _, class := range []keys.Class{keys.Confidential, keys.Restricted, keys.TopSecret} {
		id := r.Ring.ClassID(class)
		items := corpus(t, r, class, 6)
		job, err := jobs.Open(t.Context(), asker, id, 6)
		if err != nil || job.State != service.JobOpen || job.Version != 2 {
			t.Fatalf("%+v, %v", job, err)
		}
		var renewed []keys.Encrypted
		for n, part := range [][]keys.Ciphertext{items[:4], items[:4], items[4:]} {
			number := uint64(max(1, n))
			done, state, err := jobs.Batch(t.Context(), asker, job.ID, number, part)
			if err != nil || state.Batch != number || done.DecisionID == "" {
				t.Fatalf("%+v, %v", state, err)
			}
			if n != 0 {
				renewed = append(renewed, done.Results...)
			}
			if _, err := r.Ring.Retire(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrHeld) {
				t.Fatalf("retired under a job: %v", err)
			}
			jobs = service.NewJobs(r.Service, r.Store, log) // another process
			if err := jobs.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		again, state, err := jobs.Batch(t.Context(), asker, job.ID, 0, []keys.Ciphertext{{Text: renewed[0].Text, Context: items[0].Context}})
		if err != nil || again.Results[0].Text != renewed[0].Text || state.Current != 1 {
			t.Fatalf("%+v, %v", state, err)
		}
		job, err = jobs.Finish(t.Context(), asker, id, job.ID, false)
		if err != nil || job.State != service.JobFinished || job.Done != 6 || job.Failed != 0 || job.Ended.IsZero() {
			t.Fatalf("%+v, %v", job, err)
		}
		if _, err := r.Ring.Retire(t.Context(), keys.By{}, id, 0); err != nil {
			t.Fatal(err)
		}
		for i, e := range renewed {
			opened, err := r.Decrypt(t.Context(), asker, []keys.Ciphertext{{Text: e.Text, Context: items[i].Context}, items[i]})
			if err != nil || string(opened.Results[0].Data) != fmt.Sprint("value ", i) || opened.Results[1].Err == nil {
				t.Errorf("%+v, %v", opened, err)
			}
		}
		if _, _, err := jobs.Batch(t.Context(), asker, job.ID, 0, items); !errors.Is(err, service.ErrJobClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := jobs.Finish(t.Context(), asker, id, job.ID, false); err != nil {
			t.Errorf("finished again: %v", err)
		}
	}
	if fmt.Sprint(log.states) != "[open finished open finished open finished]" {
		t.Errorf("recorded %v", log.states)
	}
}

func TestJobsThatDoNotEndWell(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	asker, log := encryptiontest.Asker(), &jobLog{}
	jobs := service.NewJobs(r.Service, r.Store, log)
	id := r.Ring.ClassID(keys.Internal)
	items := corpus(t, r, keys.Internal, 2)
	other := encrypt(t, r, keys.Restricted, at("/x"), []byte("x"))
	job, err := jobs.Open(t.Context(), asker, id, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := jobs.Batch(t.Context(), asker, job.ID, 2, items); !errors.Is(err, service.ErrBatchOrder) {
		t.Errorf("order: %v", err)
	}
	done, state, err := jobs.Batch(t.Context(), asker, job.ID, 1, []keys.Ciphertext{
		items[0], {Text: items[1].Text, Context: at("/wrong")}, {Text: other, Context: at("/x")}, {Text: "vd1.", Context: at("/x")},
	})
	if err != nil || state.Done != 1 || state.Failed != 3 || done.Results[1].Err != keys.ErrInvalid || done.Results[2].Err != service.ErrOtherKey {
		t.Fatalf("%+v %+v, %v", state, done, err)
	}
	if _, err := jobs.Finish(t.Context(), asker, id, job.ID, false); !errors.Is(err, service.ErrJobIncomplete) {
		t.Errorf("finish: %v", err)
	}
	denied := encryptiontest.Asker()
	denied.Scopes = []string{"keys:encrypt"}
	if _, _, err := jobs.Batch(t.Context(), denied, job.ID, 0, items); !errors.As(err, new(*service.DeniedError)) {
		t.Errorf("denied: %v", err)
	}
	log.err = errors.New("no log")
	if _, err := jobs.Finish(t.Context(), asker, id, job.ID, true); err == nil {
		t.Error("ended without a record")
	}
	if _, err := jobs.Open(t.Context(), asker, id, 0); err == nil {
		t.Error("begun without a record")
	}
	log.err = nil
	if _, err := jobs.Finish(t.Context(), asker, "verdict-other", job.ID, true); !errors.Is(err, service.ErrNoJob) {
		t.Errorf("other key: %v", err)
	}
	if job, err = jobs.Finish(t.Context(), asker, id, job.ID, true); err != nil || job.State != service.JobAbandoned {
		t.Errorf("%+v, %v", job, err)
	}
	for _, name := range []string{"verdict-nothing", r.Ring.ID("jwt"), r.Ring.ClassID(keys.TopSecret) + "-mac"} {
		if job, err := jobs.Open(t.Context(), asker, name, 0); err == nil {
			t.Errorf("%s: %+v", name, job)
		}
	}
	if _, err := jobs.Get(t.Context(), id, "none"); !errors.Is(err, service.ErrNoJob) {
		t.Errorf("got %v", err)
	}
	if all, err := jobs.List(t.Context(), id); err != nil || len(all) != 1 || all[0].ID != job.ID {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestReconcile: a crash between a job and its hold, at either end.
func TestReconcile(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	jobs := service.NewJobs(r.Service, r.Store, &jobLog{})
	id := r.Ring.ClassID(keys.Internal)
	corpus(t, r, keys.Internal, 1)
	job, err := jobs.Open(t.Context(), encryptiontest.Asker(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := func() int {
		info, err := r.Ring.Key(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return len(info.Holds)
	}
	check := func(want int) {
		t.Helper()
		if err := jobs.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		again, err := keys.New(r.Backend, r.Store, r.Recorder, keys.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.Ring = again
		if got := held(); got != want {
			t.Errorf("%d holds, want %d", got, want)
		}
	}
	if err := r.Ring.Release(t.Context(), id, job.ID); err != nil {
		t.Fatal(err)
	}
	check(1)
	if _, err := jobs.Finish(t.Context(), encryptiontest.Asker(), id, job.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Ring.Hold(t.Context(), id, job.ID); err != nil {
		t.Fatal(err)
	}
	check(0)
}

// TestJobLeavesOldMACs: values whose data keys are wrapped with the latest
// version, and whose MACs are not, are encrypted anew, too, so that the old
// version of the MACs' key can be retired.
func TestJobLeavesOldMACs(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	asker := encryptiontest.Asker()
	jobs := service.NewJobs(r.Service, r.Store, &jobLog{})
	id, c := r.Ring.ClassID(keys.TopSecret), at("/v")
	old := keys.Ciphertext{Text: encrypt(t, r, keys.TopSecret, c, []byte("value")), Context: c}
	if _, err := r.Ring.Compromise(t.Context(), keys.By{}, id+"-mac", 0); err != nil {
		t.Fatal(err)
	}
	job, err := jobs.Open(t.Context(), asker, id, 1)
	if err != nil || job.Version != 1 || job.MACVersion != 2 {
		t.Fatalf("%+v, %v", job, err)
	}
	done, state, err := jobs.Batch(t.Context(), asker, job.ID, 1, []keys.Ciphertext{old})
	if err != nil || state.Done != 1 || state.Current != 0 {
		t.Fatalf("%+v %+v, %v", state, done, err)
	}
	fresh := keys.Ciphertext{Text: done.Results[0].Text, Context: c}
	if _, state, err = jobs.Batch(t.Context(), asker, job.ID, 2, []keys.Ciphertext{fresh}); err != nil || state.Current != 1 {
		t.Fatalf("%+v, %v", state, err)
	}
	if _, err := jobs.Finish(t.Context(), asker, id, job.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Ring.Retire(t.Context(), keys.By{}, id+"-mac", 0); err != nil {
		t.Fatal(err)
	}
	opened, err := r.Decrypt(t.Context(), asker, []keys.Ciphertext{fresh, old})
	if err != nil || string(opened.Results[0].Data) != "value" || opened.Results[1].Err == nil {
		t.Errorf("%+v, %v", opened, err)
	}
}

// TestOpenJobsAreBounded: what a caller may open does not fill the state of a key.
func TestOpenJobsAreBounded(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	jobs := service.NewJobs(r.Service, r.Store, &jobLog{})
	id := r.Ring.ClassID(keys.Internal)
	encrypt(t, r, keys.Internal, at("/v"), []byte("value"))
	var last service.Job
	for range 100 {
		var err error
		if last, err = jobs.Open(t.Context(), encryptiontest.Asker(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := jobs.Open(t.Context(), encryptiontest.Asker(), id, 0); !errors.Is(err, service.ErrTooManyJobs) {
		t.Errorf("got %v", err)
	}
	if _, err := jobs.Finish(t.Context(), encryptiontest.Asker(), id, last.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.Open(t.Context(), encryptiontest.Asker(), id, 0); err != nil {
		t.Error(err)
	}
}

// TestJobWhileRetiring: a job that begins while versions are being retired is not
// open afterwards.
func TestJobWhileRetiring(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	log := &jobLog{}
	jobs := service.NewJobs(r.Service, r.Store, log)
	corpus(t, r, keys.Confidential, 1)
	id := r.Ring.ClassID(keys.Confidential)
	var opened error
	r.Recorder.Before = func(e keys.Event) error {
		if e.Kind == keys.EventRetired {
			_, opened = jobs.Open(t.Context(), encryptiontest.Asker(), id, 1)
		}
		return nil
	}
	if _, err := r.Ring.Retire(t.Context(), keys.By{}, id, 0); err != nil || !errors.Is(opened, keys.ErrBusy) {
		t.Fatalf("retired: %v, opened: %v", err, opened)
	}
	list, err := jobs.List(t.Context(), id)
	if err != nil || len(list) != 1 || list[0].State != service.JobAbandoned || len(log.states) != 2 {
		t.Errorf("%+v, %v, %v", list, err, log.states)
	}
}
