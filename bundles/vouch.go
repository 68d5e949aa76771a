package bundles

import (
	"context"
	"fmt"
)

// vouched is the signature by which the active content of a name was believed
// last.
type vouched struct {
	digest     string
	signatures []byte // of .signatures.json; nil: there was none
	unsigned   bool   // nobody compared it with the files
}

// believe remembers by which signature content is believed, for the next look at
// it. A later one takes the place of the one before: content may be signed anew.
func (s *Service) believe(name string, a *Archive, by Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vouched[name] = vouched{digest: a.Digest, signatures: a.Signatures(), unsigned: by.Unsigned}
}

// vouch checks that somebody still vouches for active content: that the key which
// signed it may do so now. The refusal is an *Error of the gate GateSignature.
func (s *Service) vouch(ctx context.Context, name string, entry activeEntry) error {
	s.mu.Lock()
	known := s.vouched[name]
	s.mu.Unlock()
	if known.digest == entry.Digest {
		by, err := s.o.Verifier.Vouch(name, known.signatures)
		if err != nil {
			return notVouched(name, entry, err)
		}
		if by.Unsigned || !known.unsigned {
			return nil
		}
	}
	r, err := s.meta.revision(ctx, name, entry.Revision)
	if err != nil {
		return err
	}
	return s.o.Background(func() error {
		a, err := s.disk.open(r)
		if err != nil {
			return fmt.Errorf("read bundle %s revision %s: %w", name, entry.Revision, err)
		}
		by, err := s.o.Verifier.Verify(name, a)
		if err != nil {
			return notVouched(name, entry, err)
		}
		s.believe(name, a, by)
		return nil
	})
}

func notVouched(name string, entry activeEntry, why error) *Error {
	e := refuse(CodeGate, GateSignature, "nobody vouches any more for revision %s of bundle %s, which is active: %s", shown(entry.Revision), name, bounded(why.Error()))
	e.Revision, e.Digest, e.Err = entry.Revision, entry.Digest, why
	return e
}
