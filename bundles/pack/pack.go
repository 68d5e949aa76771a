// Package pack makes the tarballs of policy bundles. The same files give the
// same bytes, on every machine and at any time: entries are sorted, and they
// have neither times nor owners.
package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ManifestName is the file that says whose paths a bundle owns.
const ManifestName = ".manifest"

// maxBytes bounds a folder: what a server takes by default.
const maxBytes = 512 << 20

// ErrEmpty is returned for a folder in which no file counts.
var ErrEmpty = errors.New("no policy and no data")

// File is a file of a bundle.
type File struct {
	Name    string // relative to the root, slash-separated
	Content []byte
}

// Folder reads the files of a folder that count in a bundle: *.rego, data.json,
// data.yaml, data.yml, and .manifest at the root. A link under such a name is an
// error, since it may lead out of the folder.
func Folder(folder fs.FS) ([]File, error) {
	var files []File
	total := int64(0)
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !counts(name) {
			return err
		}
		if !entry.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if total += info.Size(); total > maxBytes {
			return fmt.Errorf("more than %d bytes", maxBytes)
		}
		content, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		files = append(files, File{Name: name, Content: content})
		return nil
	})
	if err == nil && len(files) == 0 {
		err = ErrEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("read folder: %w", err)
	}
	return files, nil
}

func counts(name string) bool {
	switch path.Base(name) {
	case "data.json", "data.yaml", "data.yml":
		return true
	}
	return name == ManifestName || strings.HasSuffix(name, ".rego")
}

// SetManifest gives the files with a manifest that has the revision and the
// roots; an empty revision and nil roots keep what is there. Other members stay
// as they are.
func SetManifest(files []File, revision string, roots []string) ([]File, error) {
	if revision == "" && roots == nil {
		return files, nil
	}
	members := map[string]json.RawMessage{}
	at := slices.IndexFunc(files, func(f File) bool { return f.Name == ManifestName })
	if at >= 0 {
		if err := json.Unmarshal(files[at].Content, &members); err != nil {
			return nil, fmt.Errorf("read %s: %w", ManifestName, err)
		}
	}
	for name, value := range map[string]any{"revision": revision, "roots": roots} {
		if value == "" || name == "roots" && roots == nil {
			continue
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", ManifestName, err)
		}
		members[name] = encoded
	}
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(members); err != nil {
		return nil, fmt.Errorf("write %s: %w", ManifestName, err)
	}
	manifest := File{Name: ManifestName, Content: content.Bytes()}
	if at < 0 {
		return append(slices.Clone(files), manifest), nil
	}
	files = slices.Clone(files)
	files[at] = manifest
	return files, nil
}

// Write writes the files as a gzipped tarball.
func Write(w io.Writer, files []File) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(x, y File) int { return strings.Compare(x.Name, y.Name) })
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	entries := tar.NewWriter(zipped)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: int64(len(f.Content)), Mode: 0o644}
		if err := entries.WriteHeader(header); err != nil {
			return fmt.Errorf("write bundle: %s: %w", f.Name, err)
		}
		if _, err := entries.Write(f.Content); err != nil {
			return fmt.Errorf("write bundle: %s: %w", f.Name, err)
		}
	}
	if err := errors.Join(entries.Close(), zipped.Close()); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// Each calls fn for every file, as a signer or a verifier reads them.
func Each(files []File) func(fn func(name string, content io.Reader) error) error {
	return func(fn func(name string, content io.Reader) error) error {
		for _, f := range files {
			if err := fn(f.Name, bytes.NewReader(f.Content)); err != nil {
				return err
			}
		}
		return nil
	}
}
