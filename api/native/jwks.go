package native

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
)

// pathKeySet is where the public keys are (RFC 8414, section 2, jwks_uri).
const pathKeySet = "/.well-known/jwks.json"

// keySetPause is how long a key set that could not be made is not asked for
// again: the route is open, and each request might reach Vault.
const keySetPause = 5 * time.Second

// KeySet gives the public keys of what verdict signs.
type KeySet interface {
	// Set gives them as they are now; keys.ErrKeyUnknown when there is no key
	// yet.
	Set(ctx context.Context) (jose.Set, error)
	// MaxAge is how long the answer may be kept.
	MaxAge() time.Duration
}

// keySetFailure is why there is no key set, and until when that holds.
type keySetFailure struct {
	err   error
	until time.Time
}

// keySet answers GET /.well-known/jwks.json.
func (s *Server) keySet(w http.ResponseWriter, r *http.Request) {
	set, err := s.currentKeySet(r.Context())
	switch {
	case errors.Is(err, keys.ErrKeyUnknown):
		fail(w, http.StatusNotFound, "no_signing_key", "verdict has no signing key yet", "")
		return
	case err != nil:
		w.Header().Set("Retry-After", strconv.Itoa(int(keySetPause/time.Second)))
		fail(w, http.StatusServiceUnavailable, "keys_unavailable", "the public keys cannot be read now", "")
		return
	}
	body, err := json.Marshal(set)
	if err != nil {
		s.internal(w, err, "encode key set")
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "max-age="+strconv.Itoa(int(s.o.KeySet.MaxAge()/time.Second)))
	h.Set("Content-Type", jose.MediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client is gone: nobody is left to be told
}

// currentKeySet asks for the key set, unless that failed a moment ago.
func (s *Server) currentKeySet(ctx context.Context) (jose.Set, error) {
	now := s.o.Now()
	if f := s.keysFailed.Load(); f != nil && now.Before(f.until) {
		return jose.Set{}, f.err
	}
	set, err := s.o.KeySet.Set(ctx)
	if err == nil || ctx.Err() != nil {
		return set, err
	}
	s.keysFailed.Store(&keySetFailure{err: err, until: now.Add(keySetPause)})
	if !errors.Is(err, keys.ErrKeyUnknown) {
		s.o.Logger.Warn().Err(err).Msg("the public keys cannot be published now")
	}
	return jose.Set{}, err
}
