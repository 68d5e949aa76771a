package storage

import (
	"fmt"
	"time"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	KindPut    Kind = iota + 1 // set the value
	KindDelete                 // make the key absent
	KindCheck                  // change nothing
)

// Op is one operation on one key, made by the functions below.
type Op struct {
	Kind  Kind
	Key   string
	Value []byte
	// Expires is when the key becomes absent; zero: never.
	Expires time.Time
	// Conditional operations expect the revision; 0: that the key is absent.
	Conditional bool
	Revision    uint64
}

// Put sets the value whatever the key had before.
func Put(key string, value []byte) Op { return Op{Kind: KindPut, Key: key, Value: value} }

// Create sets the value of a key that is absent.
func Create(key string, value []byte) Op { return Replace(key, value, 0) }

// Replace sets the value of a key that has the revision; 0: that is absent.
func Replace(key string, value []byte, revision uint64) Op {
	return Op{Kind: KindPut, Key: key, Value: value, Conditional: true, Revision: revision}
}

// Delete makes the key absent if it is not.
func Delete(key string) Op { return Op{Kind: KindDelete, Key: key} }

// DeleteAt makes a key absent that has the revision, which is not 0.
func DeleteAt(key string, revision uint64) Op {
	return Op{Kind: KindDelete, Key: key, Conditional: true, Revision: revision}
}

// Check changes nothing, but the batch is applied only if the key has the
// revision; 0: if it is absent.
func Check(key string, revision uint64) Op {
	return Op{Kind: KindCheck, Key: key, Conditional: true, Revision: revision}
}

// Until returns the operation with an expiry. A later put without one removes
// it.
func (o Op) Until(at time.Time) Op {
	o.Expires = at
	return o
}

// CheckOps returns ErrInvalid unless the operations are a batch within the
// limits: at least one, each of its key the only one, and not checks alone.
func CheckOps(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("%d operations, want 1 to %d: %w", len(ops), MaxOps, ErrInvalid)
	}
	var keys map[string]bool
	if len(ops) > 1 {
		keys = make(map[string]bool, len(ops))
	}
	size, writes := 0, 0
	for i := range ops {
		o := &ops[i]
		if err := o.check(); err != nil {
			return err
		}
		if keys[o.Key] {
			return fmt.Errorf("two operations on key %q: %w", o.Key, ErrInvalid)
		}
		if keys != nil {
			keys[o.Key] = true
		}
		if size += len(o.Key) + len(o.Value); size > MaxBatch {
			return fmt.Errorf("batch of more than %d bytes: %w", MaxBatch, ErrInvalid)
		}
		if o.Kind != KindCheck {
			writes++
		}
	}
	if writes == 0 {
		return fmt.Errorf("nothing but checks: %w", ErrInvalid)
	}
	return nil
}

func (o *Op) check() error {
	if err := CheckKey(o.Key); err != nil {
		return err
	}
	switch {
	case o.Kind < KindPut || o.Kind > KindCheck:
		return fmt.Errorf("key %q: operation of kind %d: %w", o.Key, o.Kind, ErrInvalid)
	case o.Kind != KindPut && (len(o.Value) > 0 || !o.Expires.IsZero()):
		return fmt.Errorf("key %q: value or expiry without a put: %w", o.Key, ErrInvalid)
	case o.Kind == KindDelete && o.Conditional && o.Revision == 0:
		return fmt.Errorf("key %q: delete at revision 0: %w", o.Key, ErrInvalid)
	case o.Kind == KindCheck && !o.Conditional:
		return fmt.Errorf("key %q: check of nothing: %w", o.Key, ErrInvalid)
	case len(o.Value) > MaxValue:
		return fmt.Errorf("key %q: value of %d bytes, at most %d: %w", o.Key, len(o.Value), MaxValue, ErrInvalid)
	}
	return CheckExpiry(o.Expires)
}

// CheckExpiry returns ErrInvalid unless the time is zero or in the years 1970
// to 9999.
func CheckExpiry(at time.Time) error {
	if !at.IsZero() && (at.UnixMicro() <= 0 || at.UTC().Year() > 9999) {
		return fmt.Errorf("expiry %v: %w", at, ErrInvalid)
	}
	return nil
}
