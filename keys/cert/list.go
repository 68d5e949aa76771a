package cert

import (
	"context"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// Bounds of a list.
const (
	DefaultPage = 100
	MaxPage     = 1000
	// maxLooked is how many certificates one page looks at.
	maxLooked = 10_000
)

// ListRequest asks for certificates.
type ListRequest struct {
	// ExpiresWithin leaves out those that live longer, and those that have ended
	// or are revoked; 0: neither.
	ExpiresWithin time.Duration
	// Type and Status leave out others; empty: neither.
	Type   Type
	Status Status
	// Cursor is that of the page before, Limit the size of a page; 0:
	// DefaultPage.
	Cursor string
	Limit  int
}

// List is a page of certificates: those that verdict itself uses on the first,
// then those issued or revoked here, in the order of their serial numbers.
type List struct {
	Certificates []Info `json:"certificates"`
	// Cursor continues the list; empty: this was the last page. A page with a
	// cursor may be short.
	Cursor string `json:"cursor,omitempty"`
}

// List gives a page. The error is that of the store.
func (r *Registry) List(ctx context.Context, q ListRequest) (List, error) {
	if q.Limit <= 0 || q.Limit > MaxPage {
		q.Limit = DefaultPage
	}
	list := List{Certificates: []Info{}}
	if q.Cursor == "" && r.o.InUse != nil {
		for _, info := range r.o.InUse() {
			if q.wants(info, r.o.Now()) {
				list.Certificates = append(list.Certificates, info)
			}
		}
	}
	cursor := q.Cursor
	for looked := 0; looked < maxLooked; {
		// As many as there is room for, so that the cursor is where the page ends.
		room := max(q.Limit-len(list.Certificates), 1)
		page, err := r.bucket.List(ctx, storage.Prefix(issuedPart), cursor, room)
		if err != nil {
			return List{}, fmt.Errorf("list certificates: %w", err)
		}
		for _, stored := range page.Entries {
			e, c, _, err := decode(stored.Value)
			if err != nil {
				return List{}, fmt.Errorf("read the certificate %s: %w", stored.Key, err)
			}
			if info := r.info(e, c); q.wants(info, r.o.Now()) {
				list.Certificates = append(list.Certificates, info)
			}
		}
		looked += len(page.Entries) + 1
		if cursor = page.Cursor; cursor == "" || len(list.Certificates) >= q.Limit {
			break
		}
	}
	list.Cursor = cursor
	return list, nil
}

func (q *ListRequest) wants(i Info, now time.Time) bool {
	switch {
	case q.Type != "" && q.Type != i.Type, q.Status != "" && q.Status != i.Status:
		return false
	case q.ExpiresWithin > 0:
		return i.Status == Active && i.NotAfter.Sub(now) <= q.ExpiresWithin
	}
	return true
}
