package client

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Secret shows of itself.
const Redacted = "[redacted]"

// Secret holds a value that must not be written down by accident: whatever
// prints, logs or encodes it gets "[redacted]". Reveal gives the value. Seal
// encodes the value itself where the field has a classification, and refuses a
// Secret without one. A Secret is read from JSON as a T is. The zero Secret
// holds the zero T.
type Secret[T any] struct {
	p *T // not the value: fmt shows unexported fields of what holds a Secret
}

// NewSecret returns a Secret of a value.
func NewSecret[T any](value T) Secret[T] { return Secret[T]{&value} }

// Reveal gives the value.
func (s Secret[T]) Reveal() T {
	if s.p == nil {
		var zero T
		return zero
	}
	return *s.p
}

// IsZero tells whether nothing was put in; encoding/json asks it for omitzero.
func (s Secret[T]) IsZero() bool { return s.p == nil }

// String implements fmt.Stringer.
func (s Secret[T]) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s Secret[T]) GoString() string { return Redacted }

// Format implements fmt.Formatter, for every verb.
func (s Secret[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements slog.LogValuer.
func (s Secret[T]) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret[T]) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret[T]) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalJSON implements json.Unmarshaler: it reads a T.
func (s *Secret[T]) UnmarshalJSON(b []byte) error {
	p := new(T)
	if err := json.Unmarshal(b, p); err != nil {
		return fmt.Errorf("read a secret %T: %w", *p, withoutValue(err))
	}
	s.p = p
	return nil
}

// withoutValue drops the parts of an error of encoding/json that quote.
func withoutValue(err error) error {
	if wrong, ok := err.(*json.UnmarshalTypeError); ok {
		return fmt.Errorf("the JSON value does not fit %s", wrong.Type)
	}
	return fmt.Errorf("the JSON value does not fit")
}

// encoded is the value's own JSON; see concealed.
func (s Secret[T]) encoded() ([]byte, error) { return json.Marshal(s.Reveal()) }

// concealed is what every Secret is, whatever T.
type concealed interface{ encoded() ([]byte, error) }
