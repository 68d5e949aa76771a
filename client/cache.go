package client

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// MaxCacheTTL bounds CacheOptions.TTL: for so long a permission that was
	// taken away may still be acted on.
	MaxCacheTTL = time.Minute

	defaultEntries   = 10_000
	maxCachedContext = 8 << 10 // bytes; what explains itself at greater length is not kept
)

// CacheOptions say whether answers of Authorize are kept. The zero value keeps
// none.
//
// What is answered from the cache leaves no record in the audit log, and a
// permission that was taken away holds for up to TTL. An answer is kept when the
// server gave it: never an error, never one with obligations, which may hold for
// a moment only. It is given again for the very same question by the same
// credential, context.time and all.
type CacheOptions struct {
	// TTL is how long an answer may be used, from when it was asked for; 0: the
	// cache is off. At most MaxCacheTTL.
	TTL time.Duration
	// Entries is how many answers are kept, the longest unused going first; 0:
	// 10,000.
	Entries int
}

func (o *CacheOptions) validate() error {
	switch {
	case o.TTL < 0 || o.Entries < 0:
		return errors.New("cache: TTL and Entries must not be negative")
	case o.TTL > MaxCacheTTL:
		return fmt.Errorf("cache: TTL is %s, at most %s is allowed", o.TTL, MaxCacheTTL)
	}
	return nil
}

type cacheKey [sha256.Size]byte

// keyOf hashes a question and who asks.
func keyOf(token string, body []byte) cacheKey {
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(token)))
	h.Write(length[:])
	h.Write([]byte(token))
	h.Write(body)
	return cacheKey(h.Sum(nil))
}

type cached struct {
	key      cacheKey
	decision Decision
	ends     time.Time
}

// cache keeps decisions. A nil one keeps none.
type cache struct {
	ttl     time.Duration
	entries int

	mu    sync.Mutex // guards what follows
	byKey map[cacheKey]*list.Element
	used  *list.List // of *cached, the last used first
}

func newCache(o CacheOptions) *cache {
	if o.TTL == 0 {
		return nil
	}
	if o.Entries == 0 {
		o.Entries = defaultEntries
	}
	return &cache{ttl: o.TTL, entries: o.Entries, byKey: map[cacheKey]*list.Element{}, used: list.New()}
}

func (c *cache) get(key cacheKey) (Decision, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byKey[key]
	if !ok {
		return Decision{}, false
	}
	kept := element.Value.(*cached)
	if !time.Now().Before(kept.ends) {
		c.remove(element)
		return Decision{}, false
	}
	c.used.MoveToFront(element)
	d := kept.decision
	d.Reasons, d.Context, d.Cached = slices.Clone(d.Reasons), slices.Clone(d.Context), true
	return d, true
}

// put keeps a decision that was asked for at a time.
func (c *cache) put(key cacheKey, d Decision, asked time.Time) {
	if len(d.Obligations) > 0 || d.Err != nil || len(d.Context) > maxCachedContext {
		return
	}
	d.Reasons, d.Context = slices.Clone(d.Reasons), slices.Clone(d.Context)
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.byKey[key]; ok {
		c.remove(element)
	}
	c.byKey[key] = c.used.PushFront(&cached{key: key, decision: d, ends: asked.Add(c.ttl)})
	if c.used.Len() > c.entries {
		c.remove(c.used.Back())
	}
}

// remove forgets a decision. The caller holds mu.
func (c *cache) remove(element *list.Element) {
	delete(c.byKey, element.Value.(*cached).key)
	c.used.Remove(element)
}
