package bundles

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/verdict-pdp/verdict/bundles/pack"
	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// OpenArchive looks through a tarball on disk as through one that is pushed:
// the same limits, the same refusals. The file must stay as it is while the
// Archive is used.
func OpenArchive(file string, limits Limits) (*Archive, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	defer in.Close()
	limits = limits.withDefaults()
	sum := sha256.New()
	a := &Archive{file: file}
	s := &scan{archive: a, limits: limits, seen: map[string]bool{}, packed: &meter{from: in, to: sum, limit: limits.Packed}}
	err = s.run()
	if s.packed.err != nil {
		err = s.packed.err
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle %s: %w", file, err)
	}
	a.Size = s.packed.n
	sum.Sum(a.SHA256[:0])
	return a, nil
}

// Sign writes the bundle again with a signature by signer, in place of one that
// it has. Neither its content nor its digest changes.
func (a *Archive) Sign(signer *signature.Signer, w io.Writer) error {
	files := make([]pack.File, 0, len(a.Files)+1)
	err := a.Each(func(f File, content io.Reader) error {
		raw, err := io.ReadAll(content)
		files = append(files, pack.File{Name: f.Path, Content: raw})
		return err
	})
	if err != nil {
		return err
	}
	signatures, err := signer.Sign(pack.Each(files))
	if err != nil {
		return err
	}
	return pack.Write(w, append(files, pack.File{Name: signature.Name, Content: signatures}))
}

// ManifestInfo is what a manifest says of whose bundle it is.
type ManifestInfo struct {
	Revision string   `json:"revision"` // as the manifest gives it, else by the digest
	Roots    []string `json:"roots"`    // "" is everything outside the standard policies
	Serial   *int64   `json:"serial,omitempty"`
}

// Describe reads the archive's manifest as a push does.
func (a *Archive) Describe() (*ManifestInfo, error) {
	m, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	serial, err := serialOf(m)
	if err != nil {
		return nil, err
	}
	info := &ManifestInfo{Revision: m.Revision, Roots: *m.Roots, Serial: serial}
	if info.Revision == "" {
		info.Revision = a.Digest[:shortRevision]
	}
	return info, nil
}

// Load reads the bundle as a push does. Its tests are kept apart.
func (a *Archive) Load(name string) (b *eval.Bundle, tests []*eval.Module, err error) {
	m, err := manifestOf(a)
	if err != nil {
		return nil, nil, err
	}
	found, err := read(name, a, m, nil)
	if err != nil {
		return nil, nil, err
	}
	return found.bundle, found.tests, nil
}
