package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// errDocument marks a JSON or YAML file that is not hashed.
var errDocument = errors.New("document")

// compare reads a file and compares it with what was signed.
func compare(f signedFile, content io.Reader, limits Limits) error {
	algorithm, ok := hashAlgorithm(f.Algorithm)
	if !ok {
		return refuse(AlgorithmNotAllowed, "%.200q: the hash algorithm %.50q proves nothing; sign with SHA-256", f.Name, f.Algorithm).file(f.Name)
	}
	want, err := hex.DecodeString(f.Hash)
	if err != nil {
		return refuse(Format, "%.200q: its hash is not hexadecimal", f.Name).file(f.Name)
	}
	got, err := sum(f.Name, algorithm, content, limits)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return refuse(FileChanged, "%.200q is not what was signed", f.Name).file(f.Name)
	}
	return nil
}

// sum hashes a file as OPA does: data files and the manifest by their content,
// so that white space and the order of members do not count, other files by
// their bytes.
func sum(name string, algorithm bundle.HashingAlgorithm, content io.Reader, limits Limits) ([]byte, error) {
	if !bundle.IsStructuredDoc(name) {
		h := newHash(algorithm)
		if _, err := io.Copy(h, content); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		return h.Sum(nil), nil
	}
	value, err := document(name, content, limits)
	if err != nil {
		return nil, err
	}
	hasher, err := bundle.NewSignatureHasher(algorithm)
	if err != nil {
		return nil, err
	}
	return hasher.HashFile(value)
}

func newHash(algorithm bundle.HashingAlgorithm) hash.Hash {
	switch algorithm {
	case bundle.SHA224:
		return sha256.New224()
	case bundle.SHA384:
		return sha512.New384()
	case bundle.SHA512:
		return sha512.New()
	case bundle.SHA512224:
		return sha512.New512_224()
	case bundle.SHA512256:
		return sha512.New512_256()
	}
	return sha256.New()
}

// document parses a file that is hashed by its content. The signature is
// verified by now, but the file may still be one that somebody else put in its
// place.
func document(name string, content io.Reader, limits Limits) (any, error) {
	most, yaml := limits.Document, bundle.IsYAMLDataFile(name)
	if yaml {
		most = limits.YAML
	}
	raw, err := io.ReadAll(io.LimitReader(content, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(raw)) > most {
		return nil, refuse(Format, "%.200q is larger than %d bytes", name, most).file(name)
	}
	if yaml {
		var value any
		if err := util.Unmarshal(raw, &value); err != nil {
			return nil, refuse(FileChanged, "%.200q is not what was signed: it is not YAML", name).file(name)
		}
		return value, nil
	}
	value, err := strictJSON(raw, limits.Values)
	if errors.Is(err, errDocument) {
		return nil, refuse(Format, "%.200q: %v", name, err).file(name)
	}
	if err != nil {
		return nil, refuse(FileChanged, "%.200q is not what was signed: it is not JSON", name).file(name)
	}
	return value, nil
}

// strictJSON parses exactly one JSON value. A member that is there twice is
// refused: readers differ in which one they take, and the hash covers only the
// last. So is more than a number of values, before memory is taken for them.
func strictJSON(raw []byte, mostValues int) (any, error) {
	members, values := shape(raw)
	if values > mostValues {
		return nil, fmt.Errorf("%w: more than %d values", errDocument, mostValues)
	}
	var value any
	if err := util.UnmarshalJSON(raw, &value); err != nil {
		return nil, err
	}
	if membersOf(value) != members {
		return nil, fmt.Errorf("%w: a member is there twice", errDocument)
	}
	return value, nil
}

// shape counts the members and the values of a JSON text, which need not be
// valid.
func shape(raw []byte) (members, values int) {
	values = 1
	quoted, escaped := false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped = c == '\\'
			quoted = c != '"'
		case c == '"':
			quoted = true
		case c == ':':
			members++
		case c == ',' || c == '[' || c == '{':
			values++
		}
	}
	return members, values
}

func membersOf(value any) int {
	n := 0
	switch v := value.(type) {
	case map[string]any:
		n = len(v)
		for _, child := range v {
			n += membersOf(child)
		}
	case []any:
		for _, child := range v {
			n += membersOf(child)
		}
	}
	return n
}
