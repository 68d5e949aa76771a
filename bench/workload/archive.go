package workload

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Archive makes a bundle of the set's files and of more, as a tar.gz to push.
func (s *Set) Archive(revision string, roots []string, more map[string][]byte) ([]byte, error) {
	files := maps.Clone(s.Files)
	maps.Copy(files, more)
	files[".manifest"] = encode(map[string]any{"revision": revision, "roots": roots})
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	t := tar.NewWriter(packed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return nil, fmt.Errorf("pack bundle: %w", err)
		}
		if _, err := t.Write(files[name]); err != nil {
			return nil, fmt.Errorf("pack bundle: %w", err)
		}
	}
	if err := errors.Join(t.Close(), packed.Close()); err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	return archive.Bytes(), nil
}
