package bundles

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/verdict-pdp/verdict/internal/durable"
)

// Below the folder of archives: those that are kept, by the SHA-256 of their
// bytes, and those that come in.
const (
	keptFolder     = "archives"
	incomingFolder = "incoming"
	archiveSuffix  = ".tar.gz"
)

// ErrDamaged is wrapped by the error of an archive that is not what was
// accepted, or is gone.
var ErrDamaged = errors.New("the archive is damaged")

// archives are files by content. A file is durable before it has its name, and
// is removed when nobody needs it any more.
type archives struct {
	dir string

	mu   sync.Mutex
	uses map[string]int // by SHA-256, owned by mu
}

func openArchives(dir string) (*archives, error) {
	for _, name := range []string{keptFolder, incomingFolder} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, err
	}
	return &archives{dir: dir, uses: map[string]int{}}, nil
}

func (a *archives) path(sum string) string {
	return filepath.Join(a.dir, keptFolder, sum+archiveSuffix)
}

// incoming makes a file for what comes in.
func (a *archives) incoming() (*os.File, error) {
	return os.CreateTemp(filepath.Join(a.dir, incomingFolder), "*"+archiveSuffix)
}

// keep gives an archive that came in its name. It is on disk when it returns,
// and the caller uses it.
func (a *archives) keep(in *Archive) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := hex.EncodeToString(in.SHA256[:])
	kept := a.path(sum)
	if err := os.Rename(in.file, kept); err != nil {
		return fmt.Errorf("keep archive: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(kept)); err != nil {
		return fmt.Errorf("keep archive: %w", err)
	}
	in.file = kept
	a.uses[sum]++
	return nil
}

// retain counts one more that needs an archive, release one less; the last
// removes the file.
func (a *archives) retain(sum string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uses[sum]++
}

func (a *archives) release(sum string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.uses[sum]--; a.uses[sum] > 0 {
		return nil
	}
	delete(a.uses, sum)
	if err := os.Remove(a.path(sum)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove archive: %w", err)
	}
	return nil
}

// sweep removes the files that nobody needs, at start.
func (a *archives) sweep() (removed []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, folder := range []string{incomingFolder, keptFolder} {
		entries, err := os.ReadDir(filepath.Join(a.dir, folder))
		if err != nil {
			return removed, err
		}
		for _, e := range entries {
			if folder == keptFolder && a.uses[strings.TrimSuffix(e.Name(), archiveSuffix)] > 0 {
				continue
			}
			name := filepath.Join(folder, e.Name())
			if err := os.RemoveAll(filepath.Join(a.dir, name)); err != nil {
				return removed, err
			}
			removed = append(removed, name)
		}
	}
	return removed, nil
}

// open looks through a kept archive again, and compares it with what was
// accepted.
func (a *archives) open(r *Revision) (*Archive, error) {
	file, err := os.Open(a.path(r.Archive.SHA256))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer file.Close()
	found := &Archive{file: file.Name()}
	most := Limits{Packed: r.Archive.Size, Unpacked: r.Archive.Unpacked, Files: 1 << 30, Ratio: 1 << 30}
	in, err := inspect(file, io.Discard, found, most)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case hex.EncodeToString(in.SHA256[:]) != r.Archive.SHA256, in.Digest != r.Digest:
		return nil, fmt.Errorf("%w: %s holds other bytes than were accepted", ErrDamaged, filepath.Base(file.Name()))
	}
	return in, nil
}

// reader gives the bytes of a kept archive.
func (a *archives) reader(r *Revision) (*os.File, error) {
	file, err := os.Open(a.path(r.Archive.SHA256))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return file, nil
}
