package signature

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// statement decodes the payload. Duplicates and names that could mean another
// file are refused, so that one name has one hash.
func (e *envelope) statement(limits Limits) (*statement, error) {
	var s statement
	if err := json.Unmarshal(e.payload, &s); err != nil {
		return nil, refuse(Format, "the JWT's payload is not what bundles are signed with: %v", err).file(Name)
	}
	if len(s.Files) > limits.Files {
		return nil, refuse(Format, "it signs more than %d files", limits.Files).file(Name)
	}
	for i := range s.Files {
		f := &s.Files[i]
		if slices.Contains(strings.Split(f.Name, "/"), "..") || f.Name == "" {
			return nil, refuse(Format, "it signs a file with the name %.100q", f.Name).file(Name)
		}
		f.Name = strings.TrimPrefix(path.Clean("/"+f.Name), "/")
	}
	slices.SortFunc(s.Files, func(x, y signedFile) int { return strings.Compare(x.Name, y.Name) })
	for i := 1; i < len(s.Files); i++ {
		if s.Files[i].Name == s.Files[i-1].Name {
			return nil, refuse(Format, "it signs %.100q twice", s.Files[i].Name).file(s.Files[i].Name)
		}
	}
	return &s, nil
}

// valid checks the times that the signer put into the signature. OPA ignores
// them; a signer who wrote one meant it.
func (s *statement) valid(now time.Time) error {
	switch {
	case s.ExpiresAt != nil && !now.Before(s.ExpiresAt.Time):
		return refuse(Expired, "the signature expired at %s", s.ExpiresAt.UTC().Format(time.RFC3339))
	case s.NotBefore != nil && now.Before(s.NotBefore.Time):
		return refuse(Expired, "the signature is not valid before %s", s.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// digest names what was signed: SHA-256 over the sorted list of
//
//	name, a zero byte, hash algorithm, a zero byte, hash in hex, a line feed
//
// White space in a data file changes a bundle's own digest and not this one.
func (s *statement) digest() string {
	h := sha256.New()
	for _, f := range s.Files {
		fmt.Fprintf(h, "%s\x00%s\x00%s\n", f.Name, f.Algorithm, strings.ToLower(f.Hash))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check compares the files with those that were signed.
func (s *statement) check(files Files, limits Limits) error {
	missing := make(map[string]signedFile, len(s.Files))
	for _, f := range s.Files {
		missing[f.Name] = f
	}
	err := files(func(name string, content io.Reader) error {
		if path.Base(name) == Name {
			return refuse(Format, "%.200q: a signature stands at the root of a bundle only, and once", name).file(name)
		}
		f, ok := missing[name]
		if !ok {
			return refuse(FileExtra, "%.200q is not signed", name).file(name)
		}
		delete(missing, name)
		return compare(f, content, limits)
	})
	if err != nil {
		return err
	}
	for _, f := range s.Files {
		if _, ok := missing[f.Name]; ok {
			return refuse(FileMissing, "%.200q was signed and is not there", f.Name).file(f.Name)
		}
	}
	return nil
}

// hashAlgorithm refuses those for which two files with one hash can be made.
func hashAlgorithm(name string) (bundle.HashingAlgorithm, bool) {
	a := bundle.HashingAlgorithm(name)
	switch a {
	case bundle.SHA224, bundle.SHA256, bundle.SHA384, bundle.SHA512, bundle.SHA512224, bundle.SHA512256:
		return a, true
	}
	return "", false
}
