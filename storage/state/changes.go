package state

import (
	"slices"
	"sync"

	"github.com/verdict-pdp/verdict/storage"
)

// watchBatch is the number of changes that a watcher takes at once.
const watchBatch = 64

// changes holds the last changes of a bucket. Watchers have a revision, and no
// buffer of their own: one that falls behind what is held is ended.
type changes struct {
	maxEvents, maxBytes int

	mu     sync.Mutex
	events []storage.Event // ascending by revision
	bytes  int
	floor  uint64        // all changes after this revision are held
	more   chan struct{} // closed at the next change
	err    error         // why there is no next change
}

func newChanges(maxEvents, maxBytes int, revision uint64) *changes {
	return &changes{maxEvents: maxEvents, maxBytes: maxBytes, floor: revision, more: make(chan struct{})}
}

func weight(e *storage.Event) int { return len(e.Key) + len(e.Value) }

// publish adds changes that are durable, ascending.
func (c *changes) publish(events []storage.Event) {
	if len(events) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, events...)
	for i := range events {
		c.bytes += weight(&events[i])
	}
	drop := 0
	for ; len(c.events)-drop > c.maxEvents || c.bytes > c.maxBytes; drop++ {
		c.bytes -= weight(&c.events[drop])
		c.floor = c.events[drop].Revision
	}
	clear(c.events[:drop])
	c.events = c.events[drop:]
	c.wake()
}

// restart forgets all changes: the bucket was replaced, and has this revision.
func (c *changes) restart(revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events, c.bytes, c.floor = nil, 0, revision
	c.wake()
}

// end makes every next return the error.
func (c *changes) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.wake()
}

func (c *changes) wake() {
	close(c.more)
	c.more = make(chan struct{})
}

// next returns changes after the revision, or what to wait for.
func (c *changes) next(after uint64) ([]storage.Event, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, nil, c.err
	}
	if after < c.floor {
		return nil, nil, storage.ErrCompacted
	}
	i, _ := slices.BinarySearchFunc(c.events, after+1, func(e storage.Event, revision uint64) int {
		switch {
		case e.Revision < revision:
			return -1
		case e.Revision > revision:
			return 1
		}
		return 0
	})
	return slices.Clone(c.events[i:min(i+watchBatch, len(c.events))]), c.more, nil
}
