package state

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// writer changes entries in one transaction and notes the changes.
type writer struct {
	tx     *bolt.Tx
	now    time.Time
	ops    int // that changed something
	events map[*Bucket][]storage.Event
}

// apply applies a batch, or changes nothing and sets the request's error. An
// error that it returns ends the transaction.
func (w *writer) apply(r *request) error {
	kv, err := w.tx.CreateBucketIfNotExists(r.bucket.top)
	if err != nil {
		return err
	}
	var found []storage.Entry
	if found, r.err = w.find(r, kv); r.err != nil {
		return nil
	}
	r.revisions = make([]uint64, len(r.ops))
	for i := range r.ops {
		o := &r.ops[i]
		switch {
		case o.Kind == storage.KindPut:
			r.revisions[i], err = w.put(r.bucket, kv, &found[i], o)
		case o.Kind == storage.KindDelete && found[i].Revision != 0:
			r.revisions[i], err = w.remove(r.bucket, kv, &found[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find returns what is stored under the keys of a batch, even if expired, or
// ErrConflict.
func (w *writer) find(r *request, kv *bolt.Bucket) ([]storage.Entry, error) {
	found := make([]storage.Entry, len(r.ops))
	for i := range r.ops {
		o := &r.ops[i]
		if stored := kv.Get([]byte(o.Key)); stored != nil {
			var err error
			if found[i], err = parseValue(r.bucket.name, o.Key, stored); err != nil {
				return nil, err
			}
		}
		revision := found[i].Revision
		if expired(&found[i], w.now) {
			revision = 0
		}
		if o.Conditional && o.Revision != revision {
			return nil, fmt.Errorf("key %q has revision %d, not %d: %w", o.Key, revision, o.Revision, storage.ErrConflict)
		}
	}
	return found, nil
}

func (w *writer) put(b *Bucket, kv *bolt.Bucket, old *storage.Entry, o *storage.Op) (uint64, error) {
	revision, err := kv.NextSequence()
	if err != nil {
		return 0, err
	}
	e := storage.Entry{Key: o.Key, Value: o.Value, Revision: revision}
	if !o.Expires.IsZero() {
		e.Expires = time.UnixMicro(o.Expires.UnixMicro()).UTC()
	}
	if err := w.unschedule(b, old); err != nil {
		return 0, err
	}
	if err := schedule(w.tx, b.name, &e); err != nil {
		return 0, err
	}
	stored := appendValue(make([]byte, 0, valueHead+len(o.Value)+valueTail), b.name, &e)
	e.Value = stored[valueHead : len(stored)-valueTail : len(stored)-valueTail]
	w.note(b, storage.Event{Entry: e})
	return revision, kv.Put([]byte(o.Key), stored)
}

func (w *writer) remove(b *Bucket, kv *bolt.Bucket, old *storage.Entry) (uint64, error) {
	revision, err := kv.NextSequence()
	if err != nil {
		return 0, err
	}
	key := old.Key
	if err := w.unschedule(b, old); err != nil {
		return 0, err
	}
	w.note(b, storage.Event{Entry: storage.Entry{Key: key, Revision: revision}, Deleted: true})
	return revision, kv.Delete([]byte(key))
}

func (w *writer) note(b *Bucket, e storage.Event) {
	w.ops++
	w.events[b] = append(w.events[b], e)
}

// The bucket of expiry has a key for each entry that expires, with no value:
//
//	expires i64, name of the bucket, a zero byte, key
func expiryKey(bucket string, e *storage.Entry) []byte {
	k := make([]byte, 0, 8+len(bucket)+1+len(e.Key))
	k = binary.BigEndian.AppendUint64(k, uint64(micros(e.Expires)))
	k = append(k, bucket...)
	k = append(k, 0)
	return append(k, e.Key...)
}

func schedule(tx *bolt.Tx, bucket string, e *storage.Entry) error {
	if e.Expires.IsZero() {
		return nil
	}
	return tx.Bucket([]byte(bucketExpiry)).Put(expiryKey(bucket, e), nil)
}

func (w *writer) unschedule(b *Bucket, e *storage.Entry) error {
	if e.Expires.IsZero() {
		return nil
	}
	return w.tx.Bucket([]byte(bucketExpiry)).Delete(expiryKey(b.name, e))
}
