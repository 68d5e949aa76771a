package native

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

func (s *Server) mountJobs(r chi.Router, require Require) {
	guarded := r.With(require(api.Route{Class: api.ClassReencrypt, Handler: "api/v1"}))
	guarded.Post("/api/v1/keys/{id}/jobs", s.jobOpen)
	guarded.Get("/api/v1/keys/{id}/jobs", s.jobList)
	guarded.Get("/api/v1/keys/{id}/jobs/{job}", s.job)
	guarded.Post("/api/v1/keys/{id}/jobs/{job}/finish", s.jobFinish)
}

// jobAnswer is a job as it is shown.
type jobAnswer struct {
	service.Job
	// Remaining is how many values are missing of a total that is known.
	Remaining *int64 `json:"remaining,omitempty"`
}

func shownJob(j service.Job) jobAnswer {
	a := jobAnswer{Job: j}
	if j.Total > 0 {
		a.Remaining = new(max(0, j.Total-j.Done-j.Current))
	}
	return a
}

// jobOpen answers POST /api/v1/keys/{id}/jobs.
func (s *Server) jobOpen(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Total int64 `json:"total"`
	}
	if r.ContentLength != 0 && !decode(w, r, &body) {
		return
	}
	if body.Total < 0 {
		fail(w, http.StatusBadRequest, "invalid_parameter", "total is the number of values, or 0 when it is not known", "total")
		return
	}
	job, err := s.o.Jobs.Open(r.Context(), askerOf(r, &cryptoAsk{}), param(r, "id"), body.Total)
	if err != nil {
		s.jobError(w, r, err)
		return
	}
	w.Header().Set("Location", r.URL.Path+"/"+job.ID)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	s.reply(w, shownJob(job))
}

// jobList answers GET /api/v1/keys/{id}/jobs.
func (s *Server) jobList(w http.ResponseWriter, r *http.Request) {
	jobs, err := s.o.Jobs.List(r.Context(), param(r, "id"))
	if err != nil {
		s.jobError(w, r, err)
		return
	}
	answer := struct {
		Jobs []jobAnswer `json:"jobs"`
	}{make([]jobAnswer, len(jobs))}
	for i, j := range jobs {
		answer.Jobs[i] = shownJob(j)
	}
	s.reply(w, answer)
}

// job answers GET /api/v1/keys/{id}/jobs/{job}.
func (s *Server) job(w http.ResponseWriter, r *http.Request) {
	job, err := s.o.Jobs.Get(r.Context(), param(r, "id"), param(r, "job"))
	if err != nil {
		s.jobError(w, r, err)
		return
	}
	s.reply(w, shownJob(job))
}

// jobFinish answers POST /api/v1/keys/{id}/jobs/{job}/finish.
func (s *Server) jobFinish(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Abandon bool `json:"abandon"`
	}
	if r.ContentLength != 0 && !decode(w, r, &body) {
		return
	}
	job, err := s.o.Jobs.Finish(r.Context(), askerOf(r, &cryptoAsk{}), param(r, "id"), param(r, "job"), body.Abandon)
	if err != nil {
		s.jobError(w, r, err)
		return
	}
	s.reply(w, shownJob(job))
}

// jobError answers an error of a job.
func (s *Server) jobError(w http.ResponseWriter, r *http.Request, err error) {
	for known, answer := range map[error]struct {
		status int
		detail string
	}{
		service.ErrNoJob:         {http.StatusNotFound, "the key has no such job"},
		service.ErrJobClosed:     {http.StatusConflict, "the job has ended; open another one"},
		service.ErrJobIncomplete: {http.StatusConflict, "values are missing or failed; encrypt them anew, or give up on them with abandon"},
		service.ErrTooManyJobs:   {http.StatusConflict, "the key has 100 open jobs; finish or abandon some"},
		service.ErrBatchOrder:    {http.StatusConflict, "batches are numbered from 1 on, without gaps; the job tells the last one"},
		keys.ErrBusy:             {http.StatusConflict, "old versions of the key are being retired; try again"},
		keys.ErrKeyUnknown:       {http.StatusNotFound, "there is no such key"},
		keys.ErrUnsupported:      {http.StatusUnprocessableEntity, "no values are encrypted under this key"},
	} {
		if errors.Is(err, known) {
			fail(w, answer.status, known.Error(), answer.detail, "")
			return
		}
	}
	s.cryptoError(w, r, err)
}

// readJob reads the job that a batch belongs to; empty: none.
func (a *cryptoAsk) readJob() (id string, number uint64, err error) {
	job, batch := a.shared.Member("job"), a.shared.Member("batch")
	if job == nil {
		if batch != nil {
			return "", 0, wrong("batch", "a batch is of a job, which is missing")
		}
		return "", 0, nil
	}
	id, ok := job.Text()
	if !ok || id == "" || len(id) > 64 {
		return "", 0, wrong("job", "job is the id of a job")
	}
	if batch != nil {
		number, err = strconv.ParseUint(string(batch.Raw()), 10, 63)
		if batch.Kind != jsondoc.Number || err != nil || number == 0 {
			return "", 0, wrong("batch", "batch is a whole number from 1 on")
		}
	}
	return id, number, nil
}

// reencryptJob answers a batch of a job.
func (s *Server) reencryptJob(w http.ResponseWriter, r *http.Request, ask *cryptoAsk, id string, number uint64) error {
	if s.o.Jobs == nil {
		return wrong("job", "there are no jobs here")
	}
	items := make([]keys.Ciphertext, len(ask.items))
	for i := range items {
		if ask.items[i].Member("classification") != nil || ask.shared.Member("classification") != nil {
			return wrong(ask.at(i, "classification"), "in a job values keep their classification")
		}
		if err := ask.ciphertext(i, &items[i]); err != nil {
			return err
		}
	}
	done, job, err := s.o.Jobs.Batch(r.Context(), ask.asker, id, number, items)
	if err != nil {
		s.jobError(w, r, err)
		return nil
	}
	shown := shownJob(job)
	ask.job = &shown
	return s.answerValues(w, ask, done.DecisionID, len(items), func(i int) (valueAnswer, error) { return encrypted(&done.Results[i]) })
}
