package issuer

import (
	"crypto/sha256"
	"sync"
	"time"
)

// What an entry is taken to cost in memory: claims as terms take some times
// their text.
const (
	entryCost   = 1 << 10
	entryFactor = 8
)

// entry is a verified token.
type entry struct {
	token  *Token
	issuer *issuer
	keys   *keySet
	until  time.Time
	size   int
}

// cache keeps verified tokens by the hash of their text. It has two halves: what
// is new goes into the young one, and when that is full the old one is dropped
// and the young one becomes old. What is asked for becomes young again.
type cache struct {
	entries, bytes int // bounds of a half

	mu    sync.RWMutex
	young map[[sha256.Size]byte]*entry
	old   map[[sha256.Size]byte]*entry
	size  int // of young
}

func newCache(entries, bytes int) *cache {
	return &cache{entries: max(entries/2, 1), bytes: bytes / 2, young: map[[sha256.Size]byte]*entry{}}
}

// get is a token that still holds: its issuer is configured as it was, its keys
// are those that verified it, and it has not ended for longer than skew.
func (c *cache) get(hash [sha256.Size]byte, known issuers, now time.Time, skew time.Duration) (t *Token, name string) {
	c.mu.RLock()
	e, young := c.young[hash]
	if !young {
		e = c.old[hash]
	}
	c.mu.RUnlock()
	if e == nil {
		return nil, ""
	}
	if known[e.issuer.Issuer] != e.issuer || e.issuer.source.keys.Load() != e.keys || !now.Before(e.token.Expires.Add(skew)) || !now.Before(e.until) {
		return nil, ""
	}
	if !young {
		c.put(hash, e)
	}
	return e.token, e.issuer.Issuer
}

func (c *cache) put(hash [sha256.Size]byte, e *entry) {
	if e.size > c.bytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.young[hash]; before != nil {
		c.size -= before.size
	} else if len(c.young) >= c.entries {
		c.age()
	}
	if c.size+e.size > c.bytes {
		c.age()
	}
	c.young[hash] = e
	c.size += e.size
}

// age makes the young half the old one. It is called with the lock.
func (c *cache) age() {
	c.old, c.young, c.size = c.young, map[[sha256.Size]byte]*entry{}, 0
}
