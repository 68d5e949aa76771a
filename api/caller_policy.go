package api

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/api/tokens"
)

// maxKept bounds the answers of the caller policy that are kept.
const maxKept = 4096

// CallerPolicy may refuse callers beyond what the scopes do:
// data.verdict.system.authz. Both methods must be safe for concurrent use.
type CallerPolicy interface {
	// Generation names the snapshot in force. It is called for each request and
	// must cost next to nothing; a new snapshot has a new number.
	Generation() uint64
	// MayCall answers for one request. It should say Allowed where no such
	// policy is loaded. An error refuses the request.
	MayCall(ctx context.Context, q *CallerQuestion) (CallerAnswer, error)
}

// CallerQuestion is one request, as the caller policy sees it.
type CallerQuestion struct {
	Caller   Caller
	Class    Class
	Listener Listener
	Method   string
	Path     string // escaped
	Bundle   string // the NAME that the request is about, if any
	ClientIP string // empty when not known
}

// CallerAnswer is what the caller policy says.
type CallerAnswer struct {
	Allowed bool
	Reason  string // for the caller, when not allowed
	// Cacheable says that the answer depends on nothing but Caller and Class: it
	// reached neither the other members, nor the clock, nor chance. It is kept
	// for as long as Generation stays.
	Cacheable  bool
	Generation uint64 // of the snapshot that gave the answer
}

// keptAnswers are answers of one snapshot, by caller and class. Reading takes
// no lock and allocates nothing.
type keptAnswers struct {
	current atomic.Pointer[generation]
	mu      sync.Mutex // held to replace current
}

type generation struct {
	number  uint64
	answers map[keptKey]CallerAnswer // never changed
}

// maxKeptOutside bounds the answers beside which those for callers of outside
// issuers are kept: there may be any number of them.
const maxKeptOutside = maxKept / 4

// keptKey names a caller: a token as it was read, since its name and even its
// id can come back with other scopes; a certificate by its name, the rule that
// gave it its scopes, since two rules may give one name, and the settings.
type keptKey struct {
	kind     Kind
	class    Class
	token    *tokens.Token
	name     string
	rule     *certificateCaller
	scopes   string // of an Outside caller: those of one name may change
	settings *settings
}

func (k *keptAnswers) find(number uint64, key keptKey) (CallerAnswer, bool) {
	g := k.current.Load()
	if g == nil || g.number != number {
		return CallerAnswer{}, false
	}
	a, ok := g.answers[key]
	return a, ok
}

func (k *keptAnswers) keep(key keptKey, a CallerAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := &generation{number: a.Generation, answers: map[keptKey]CallerAnswer{}}
	if g := k.current.Load(); g != nil {
		if g.number > a.Generation {
			return // of a snapshot that is gone already
		}
		if g.number == a.Generation && key.kind == Outside && len(g.answers) >= maxKeptOutside {
			return
		}
		if g.number == a.Generation && len(g.answers) < maxKept {
			next.answers = maps.Clone(g.answers)
		}
	}
	next.answers[key] = a
	k.current.Store(next)
}
