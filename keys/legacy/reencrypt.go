package legacy

import (
	"context"
	"errors"

	"github.com/verdict-pdp/verdict/keys"
)

// Ring encrypts anew; a *keys.Ring does.
type Ring interface {
	Encrypt(ctx context.Context, by keys.By, values []keys.Value) ([]keys.Encrypted, error)
}

// Item is a field and what it is from now on.
type Item struct {
	Field   Field
	Class   keys.Class
	Context keys.Context
}

// Counts tells how it went with fields.
type Counts struct {
	Total int `json:"total"`
	// Done counts the fields that were encrypted anew, by their algorithm.
	Done map[Algorithm]int `json:"done"`
	// Failed counts the others, by the code of the error.
	Failed map[string]int `json:"failed"`
}

// Reencrypt opens fields and encrypts their values by the ring, at most
// keys.MaxItems. It gives one result for each and counts them. An error means
// that no field was encrypted.
func (k *Keys) Reencrypt(ctx context.Context, r Ring, by keys.By, items []Item) ([]keys.Encrypted, Counts, error) {
	results, values := make([]keys.Encrypted, len(items)), make([]keys.Value, 0, len(items))
	at := make([]int, 0, len(items))
	defer func() {
		for i := range values {
			clear(values[i].Data)
		}
	}()
	for i, item := range items {
		plain, err := k.Open(item.Field)
		if err != nil {
			results[i].Err = err
			continue
		}
		values, at = append(values, keys.Value{Class: item.Class, Context: item.Context, Data: plain}), append(at, i)
	}
	sealed, err := r.Encrypt(ctx, by, values)
	if err != nil {
		return nil, Counts{}, err
	}
	for n, i := range at {
		results[i] = sealed[n]
	}
	return results, count(items, results), nil
}

func count(items []Item, results []keys.Encrypted) Counts {
	c := Counts{Total: len(items), Done: map[Algorithm]int{}, Failed: map[string]int{}}
	for i, r := range results {
		if r.Err == nil {
			c.Done[items[i].Field.Algorithm]++
			continue
		}
		c.Failed[code(r.Err)]++
	}
	return c
}

// code is the error of the list that err is.
func code(err error) string {
	for _, known := range []error{ErrMalformed, ErrKeyUnknown, ErrInvalid, keys.ErrNotEncrypted, keys.ErrTooLarge, keys.ErrUnavailable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "other"
}
