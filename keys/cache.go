package keys

import (
	"container/list"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// dataKey is an open data key. The key's bytes are zeroed as soon as the
// cipher is made of them; what stays in memory is the cipher, until nobody
// refers to it.
type dataKey struct {
	aead    cipher.AEAD
	wrapped WrappedKey
}

// newDataKey makes the cipher and zeroes the key.
func newDataKey(plaintext []byte, w WrappedKey) (*dataKey, error) {
	defer clear(plaintext)
	if len(plaintext) != DataKeySize {
		return nil, fmt.Errorf("data key of %d bytes: %w", len(plaintext), ErrInvalid)
	}
	block, err := aes.NewCipher(plaintext)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return &dataKey{aead: aead, wrapped: w}, nil
}

// cacheKey names a data key in a cache. For one that encrypts, the sum is
// zero: there is one for each key and tenant.
type cacheKey struct {
	keyID, tenant string
	sum           [sha256.Size]byte
}

// openKey names a data key that decrypts, by all that it was wrapped with.
func openKey(keyID, tenant string, w WrappedKey, wrapping []byte) cacheKey {
	h := sha256.New()
	var size [8]byte
	binary.BigEndian.PutUint32(size[:4], w.Version)
	binary.BigEndian.PutUint32(size[4:], uint32(len(w.Blob)))
	h.Write(size[:])
	h.Write(w.Blob)
	h.Write(wrapping)
	k := cacheKey{keyID: keyID, tenant: tenant}
	h.Sum(k.sum[:0])
	return k
}

type cached struct {
	key     cacheKey
	dek     *dataKey
	expires time.Time
	uses    int64
	bytes   int64
	size    int64
}

// cache holds data keys, each until it expires, bounded in number and in the
// bytes that they take; the one used longest ago goes first.
type cache struct {
	maxEntries int
	maxSize    int64
	maxUses    int64 // values that one data key encrypts
	maxBytes   int64 // and their length
	now        func() time.Time

	mu      sync.Mutex // guards what follows
	entries map[cacheKey]*list.Element
	order   *list.List // of *cached, most recently used first
	size    int64
	flights map[cacheKey]*flight
	epoch   uint64 // grows with every forget
}

// flight is a data key that somebody is fetching for all who want it.
type flight struct {
	done chan struct{}
	dek  *dataKey
	err  error
}

func newCache(maxEntries int, maxSize int64, now func() time.Time) *cache {
	return &cache{
		maxEntries: maxEntries, maxSize: maxSize, maxUses: maxUses, maxBytes: maxKeyBytes, now: now,
		entries: map[cacheKey]*list.Element{}, order: list.New(), flights: map[cacheKey]*flight{},
	}
}

// take gives the data key and counts uses of it, or tells that there is none
// which may be used so much more. The caller holds c.mu.
func (c *cache) take(k cacheKey, uses, bytes int64) (*dataKey, bool) {
	el, ok := c.entries[k]
	if !ok {
		return nil, false
	}
	e := el.Value.(*cached)
	if !c.now().Before(e.expires) || e.uses+uses > c.maxUses || e.bytes+bytes > c.maxBytes {
		c.drop(el)
		return nil, false
	}
	e.uses, e.bytes = e.uses+uses, e.bytes+bytes
	c.order.MoveToFront(el)
	return e.dek, true
}

// board gives the data key, or a flight to wait for, or a new flight that the
// caller must land.
func (c *cache) board(k cacheKey, uses, bytes int64) (dek *dataKey, f *flight, pilot bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dek, ok := c.take(k, uses, bytes); ok {
		return dek, nil, false
	}
	if f, ok := c.flights[k]; ok {
		return nil, f, false
	}
	f = &flight{done: make(chan struct{})}
	c.flights[k] = f
	return nil, f, true
}

// land ends a flight. The data key is kept for as long as given, with the uses
// that the pilot makes of it, unless keys were forgotten since epoch.
func (c *cache) land(k cacheKey, f *flight, keep time.Duration, epoch uint64, uses, bytes int64) {
	c.mu.Lock()
	if c.flights[k] == f {
		delete(c.flights, k)
	}
	if f.err == nil && c.epoch == epoch {
		c.put(&cached{key: k, dek: f.dek, expires: c.now().Add(keep), uses: uses, bytes: bytes})
	}
	c.mu.Unlock()
	close(f.done)
}

func (c *cache) put(e *cached) {
	const overhead = 2 << 10 // key schedule, tables, maps
	e.size = int64(overhead + len(e.key.keyID) + len(e.key.tenant) + len(e.dek.wrapped.Blob))
	if el, ok := c.entries[e.key]; ok {
		c.drop(el)
	}
	c.entries[e.key] = c.order.PushFront(e)
	c.size += e.size
	for c.order.Len() > c.maxEntries || c.size > c.maxSize {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(el *list.Element) {
	e := c.order.Remove(el).(*cached)
	delete(c.entries, e.key)
	c.size -= e.size
}

// forget drops all data keys under a key, or all when keyID is empty. Flights
// that are under way are not kept and not joined any more.
func (c *cache) forget(keyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.flights)
	for el := c.order.Front(); el != nil; {
		next := el.Next()
		if keyID == "" || el.Value.(*cached).key.keyID == keyID {
			c.drop(el)
		}
		el = next
	}
}

// sweep drops what has expired.
func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for el := c.order.Front(); el != nil; {
		next := el.Next()
		if !now.Before(el.Value.(*cached).expires) {
			c.drop(el)
		}
		el = next
	}
}

func (c *cache) current() (epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

// wait waits until the flight has landed.
func (f *flight) wait(ctx context.Context) (*dataKey, error) {
	select {
	case <-f.done:
		return f.dek, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
