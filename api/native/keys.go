package native

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/internal/timespan"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
)

// KeyRing is the key ring as this API needs it; a *keys.Ring is one.
type KeyRing interface {
	Policy(c keys.Class) keys.Policy
	Key(ctx context.Context, id string) (keys.Info, error)
	Keys(ctx context.Context, expiresWithin time.Duration) ([]keys.Info, error)
	Rotate(ctx context.Context, by keys.By, id string) (keys.Key, error)
	SetNextRotation(ctx context.Context, by keys.By, id string, at time.Time) error
	Compromise(ctx context.Context, by keys.By, id string, version uint32) (keys.Key, error)
	Retire(ctx context.Context, by keys.By, id string, version uint32) (keys.Key, error)
}

// Keys are the keys that the API shows and changes.
type Keys struct {
	Ring KeyRing
	// Escrow and Recoveries; nil: nothing is escrowed.
	Escrow     *escrow.Escrow
	Recoveries *escrow.Recoveries
	// RotateMaster gives the embedded ring another master key, once that is
	// recorded; ErrNoMaster where it is not verdict's to change.
	RotateMaster func(ctx context.Context, by keys.By) error
}

// ErrNoMaster is returned when the master key is not one that verdict changes.
var ErrNoMaster = errors.New("the master key is not in a file that verdict writes")

// mountKeys adds the routes of keys.
func (s *Server) mountKeys(r chi.Router, require Require) {
	route := func(method, pattern string, class api.Class, h http.HandlerFunc) {
		r.With(require(api.Route{Class: class, Handler: "api/v1"})).Method(method, pattern, h)
	}
	const one = "/api/v1/keys/{id}"
	route(http.MethodGet, "/api/v1/keys", api.ClassStatus, s.keyList)
	route(http.MethodGet, one, api.ClassStatus, s.key)
	route(http.MethodGet, one+"/public", api.ClassStatus, s.keyPublic)
	route(http.MethodPost, one+"/rotate", api.ClassAdmin, s.keyRotate)
	route(http.MethodPut, one+"/next_rotation", api.ClassAdmin, s.keySchedule)
	route(http.MethodDelete, one+"/next_rotation", api.ClassAdmin, s.keyUnschedule)
	route(http.MethodPost, one+"/compromise", api.ClassAdmin, s.keyCompromise)
	route(http.MethodPost, one+"/retire", api.ClassAdmin, s.keyRetire)
	route(http.MethodGet, one+"/escrow", api.ClassAdmin, s.keyEscrow)
	route(http.MethodPost, one+"/recover", api.ClassAdmin, s.keyRecover)
	route(http.MethodDelete, one+"/recover", api.ClassAdmin, s.keyRecoverCancel)
	route(http.MethodPost, "/api/v1/keys/master/rotate", api.ClassAdmin, s.masterRotate)
}

// decodeIf reads a request's JSON object, which may be missing.
func decodeIf(w http.ResponseWriter, r *http.Request, into any) bool {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAsk))
	if err == nil && len(raw) > 0 {
		err = strictJSON(bytes.NewReader(raw), into)
	}
	if err != nil {
		failBody(w, r, err)
		return false
	}
	return true
}

// keyList answers GET /api/v1/keys.
func (s *Server) keyList(w http.ResponseWriter, r *http.Request) {
	if !parameters(w, r, "expires_within") {
		return
	}
	var within time.Duration
	if text := r.URL.Query().Get("expires_within"); text != "" {
		var err error
		if within, err = timespan.Parse(text); err != nil || within <= 0 {
			fail(w, http.StatusBadRequest, "invalid_parameter", "expires_within is a duration above 0, for example 720h or 30d", "expires_within")
			return
		}
	}
	infos, err := s.o.Keys.Ring.Keys(r.Context(), within)
	if err != nil {
		s.keyError(w, r, err, "list keys")
		return
	}
	answer := keyListView{Policies: map[string]keys.Policy{}, Keys: make([]keyView, 0, len(infos)), Stats: keyStats{ByType: map[string]int{}}}
	for _, class := range keys.Classes() {
		answer.Policies[class.String()] = s.o.Keys.Ring.Policy(class)
	}
	for i := range infos {
		v, err := s.keyView(r.Context(), &infos[i])
		if err != nil {
			s.keyError(w, r, err, "list keys")
			return
		}
		answer.Stats.add(&v)
		answer.Keys = append(answer.Keys, v)
	}
	s.reply(w, answer)
}

// key answers GET /api/v1/keys/{id}.
func (s *Server) key(w http.ResponseWriter, r *http.Request) { s.showKey(w, r, param(r, "id")) }

// showKey answers with a key as it is now.
func (s *Server) showKey(w http.ResponseWriter, r *http.Request, id string) {
	info, err := s.o.Keys.Ring.Key(r.Context(), id)
	if err != nil {
		s.keyError(w, r, err, "read key")
		return
	}
	v, err := s.keyView(r.Context(), &info)
	if err != nil {
		s.keyError(w, r, err, "read key")
		return
	}
	w.Header().Set("ETag", keyETag(&info))
	s.reply(w, v)
}

// keyChange makes a change of the key that the path names, unless If-Match
// names another state, and answers with the key. Changes by this server take
// turns.
func (s *Server) keyChange(w http.ResponseWriter, r *http.Request, doing string, change func(id string) error) {
	id := param(r, "id")
	s.keyChanges.Lock()
	defer s.keyChanges.Unlock()
	if match := r.Header.Values("If-Match"); len(match) > 0 {
		info, err := s.o.Keys.Ring.Key(r.Context(), id)
		if err != nil {
			s.keyError(w, r, err, doing)
			return
		}
		tags := bundles.ParseETags(match)
		if now := keyETag(&info); !slices.Contains(tags, now[1:len(now)-1]) && !slices.Contains(tags, "*") {
			fail(w, http.StatusPreconditionFailed, "precondition_failed", "the key has changed: its ETag is "+now, "If-Match")
			return
		}
	}
	if err := change(id); err != nil {
		s.keyError(w, r, err, doing)
		return
	}
	s.showKey(w, r, id)
}

// keyRotate answers POST /api/v1/keys/{id}/rotate.
func (s *Server) keyRotate(w http.ResponseWriter, r *http.Request) {
	if !decodeIf(w, r, &struct{}{}) {
		return
	}
	s.keyChange(w, r, "rotate key", func(id string) error {
		_, err := s.o.Keys.Ring.Rotate(r.Context(), byOf(r), id)
		return err
	})
}

// keySchedule answers PUT /api/v1/keys/{id}/next_rotation.
func (s *Server) keySchedule(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		At *time.Time `json:"at"`
	}
	if !decode(w, r, &ask) {
		return
	}
	now := s.o.Now()
	if ask.At == nil || !ask.At.After(now) || ask.At.After(now.AddDate(100, 0, 0)) {
		fail(w, http.StatusBadRequest, "invalid_parameter", "at is a time to come (RFC 3339), at most 100 years ahead", "at")
		return
	}
	s.keyChange(w, r, "set the next rotation", func(id string) error {
		return s.o.Keys.Ring.SetNextRotation(r.Context(), byOf(r), id, *ask.At)
	})
}

// keyUnschedule answers DELETE /api/v1/keys/{id}/next_rotation.
func (s *Server) keyUnschedule(w http.ResponseWriter, r *http.Request) {
	s.keyChange(w, r, "remove the next rotation", func(id string) error {
		return s.o.Keys.Ring.SetNextRotation(r.Context(), byOf(r), id, time.Time{})
	})
}

// keyCompromise answers POST /api/v1/keys/{id}/compromise.
func (s *Server) keyCompromise(w http.ResponseWriter, r *http.Request) {
	s.keyVersion(w, r, "mark a key as compromised", s.o.Keys.Ring.Compromise)
}

// keyRetire answers POST /api/v1/keys/{id}/retire.
func (s *Server) keyRetire(w http.ResponseWriter, r *http.Request) {
	s.keyVersion(w, r, "retire versions of a key", s.o.Keys.Ring.Retire)
}

// keyVersion makes a change that is about a version of a key, the latest when
// none is named.
func (s *Server) keyVersion(w http.ResponseWriter, r *http.Request, doing string, change func(context.Context, keys.By, string, uint32) (keys.Key, error)) {
	var ask struct {
		Version json.RawMessage `json:"version"` // so that null is seen
	}
	if !decodeIf(w, r, &ask) {
		return
	}
	version := uint32(0)
	if ask.Version != nil {
		if err := json.Unmarshal(ask.Version, &version); err != nil || version == 0 {
			fail(w, http.StatusBadRequest, "invalid_parameter", "version is a number from 1 on; leave it out for the latest", "version")
			return
		}
	}
	s.keyChange(w, r, doing, func(id string) error {
		_, err := change(r.Context(), byOf(r), id, version)
		return err
	})
}

// masterRotate answers POST /api/v1/keys/master/rotate.
func (s *Server) masterRotate(w http.ResponseWriter, r *http.Request) {
	if !decodeIf(w, r, &struct{}{}) {
		return
	}
	if s.o.Keys.RotateMaster == nil {
		s.keyError(w, r, ErrNoMaster, "rotate the master key")
		return
	}
	s.keyChanges.Lock()
	defer s.keyChanges.Unlock()
	if err := s.o.Keys.RotateMaster(r.Context(), byOf(r)); err != nil {
		s.keyError(w, r, err, "rotate the master key")
		return
	}
	s.reply(w, json.RawMessage(`{"rotated":true}`))
}
