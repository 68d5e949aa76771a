package bundles

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Names of files in a bundle that mean something.
const (
	manifestName   = ".manifest"
	signaturesName = ".signatures.json"
	patchName      = "patch.json"
	regoSuffix     = ".rego"
	testSuffix     = "_test.rego"
)

const (
	maxManifest   = 1 << 20  // bytes
	maxSignatures = 16 << 20 // bytes: 20,000 files of 600 bytes each
	maxPath       = 1 << 10  // bytes

	// ratioFloor is what may be unpacked before the ratio counts: a few
	// kilobytes of policy compress well without being an attack.
	ratioFloor = 1 << 20
	// headRoom is what a file may take in the stream beside its content.
	headRoom = 4 << 10
)

// File is a file of a bundle.
type File struct {
	Path   string // without a slash at the start
	Size   int64
	SHA256 [sha256.Size]byte
}

// Archive is a bundle's tarball on disk, looked through and within the limits.
// Its content is not believed yet.
type Archive struct {
	// Size and SHA256 are those of the bytes as they came.
	Size   int64
	SHA256 [sha256.Size]byte
	// Unpacked is the size of all files together.
	Unpacked int64
	// Digest names the content: 64 hex digits, the same however the files are
	// packed or signed.
	Digest string
	// Files are all but the signatures, sorted by path.
	Files []File

	file       string // where it lies
	manifest   []byte // nil: there is none
	signatures []byte // nil: there are none
}

// Signatures is the content of .signatures.json, nil when there is none.
func (a *Archive) Signatures() []byte { return a.signatures }

// Manifest is the content of .manifest, nil when there is none.
func (a *Archive) Manifest() []byte { return a.manifest }

// Each calls fn for each file but the signatures, in the order of the archive,
// and ends with its error. What fn does not read is skipped.
func (a *Archive) Each(fn func(f File, content io.Reader) error) error {
	in, err := os.Open(a.file)
	if err != nil {
		return fmt.Errorf("open archive: %w", err)
	}
	defer in.Close()
	unzipped, err := gzip.NewReader(bufio.NewReader(in))
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	entries := tar.NewReader(unzipped)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg || tidy(h.Name) == signaturesName {
			continue
		}
		i, ok := slices.BinarySearchFunc(a.Files, tidy(h.Name), func(f File, name string) int { return strings.Compare(f.Path, name) })
		if !ok {
			return fmt.Errorf("read archive: %s was not there before", h.Name)
		}
		if err := fn(a.Files[i], entries); err != nil {
			return err
		}
	}
}

// receive writes what comes to file and looks through it on the way, in memory
// that depends on neither. The error is a *Error of the gate "archive", or one
// of reading and writing. The file is not removed on error.
func receive(body io.Reader, file *os.File, limits Limits) (*Archive, error) {
	return inspect(body, file, &Archive{file: file.Name()}, limits)
}

// inspect fills in a from the bytes of body, which it copies to out.
func inspect(body io.Reader, out io.Writer, a *Archive, limits Limits) (*Archive, error) {
	sum := sha256.New()
	packed := &meter{from: body, to: io.MultiWriter(out, sum), limit: limits.Packed}
	s := &scan{archive: a, limits: limits, packed: packed, seen: map[string]bool{}}
	err := s.run()
	switch {
	case packed.err != nil:
		return nil, packed.err
	case err != nil:
		return nil, err
	}
	a.Size = packed.n
	sum.Sum(a.SHA256[:0])
	return a, nil
}

// meter copies what is read and counts it. What ends reading is kept in err.
type meter struct {
	from     io.Reader
	to       io.Writer
	n, limit int64
	err      error // not io.EOF
}

func (m *meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.from.Read(p)
	m.n += int64(n)
	if m.n > m.limit {
		m.err = refuse(CodeTooLarge, GateArchive, "more than %d bytes packed", m.limit)
		return 0, m.err
	}
	if _, failed := m.to.Write(p[:n]); failed != nil {
		m.err = fmt.Errorf("write archive: %w", failed)
		return 0, m.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = fmt.Errorf("receive archive: %w", err)
	}
	return n, err
}

// scan looks through an archive while it comes in.
type scan struct {
	archive *Archive
	limits  Limits
	packed  *meter

	seen     map[string]bool
	entries  int
	stream   int64 // bytes out of gzip
	absolute *bool // whether names start with a slash, once the first is known
}

// limit bounds what comes out of gzip.
func (s *scan) limit(unzipped io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := unzipped.Read(p)
		s.stream += int64(n)
		if most := s.limits.Unpacked + int64(s.limits.Files)*headRoom; s.stream > most {
			return 0, refuse(CodeTooLarge, GateArchive, "more than %d bytes unpacked", s.limits.Unpacked)
		}
		if refused := s.ratio(s.stream); refused != nil {
			return 0, refused
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// ratio refuses what unpacks to far more than came in.
func (s *scan) ratio(unpacked int64) error {
	if unpacked > ratioFloor && unpacked > s.packed.n*int64(s.limits.Ratio) {
		return refuse(CodeTooLarge, GateArchive, "it unpacks to more than %d times its size", s.limits.Ratio)
	}
	return nil
}

func (s *scan) run() error {
	unzipped, err := gzip.NewReader(bufio.NewReaderSize(s.packed, 64<<10))
	if err != nil {
		return s.invalid("not a gzipped tarball", err)
	}
	stream := s.limit(unzipped)
	entries := tar.NewReader(stream)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s.invalid("not a whole tarball", err)
		}
		if err := s.entry(h, entries); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // what follows the last entry
		return s.invalid("something follows the tarball", err)
	}
	if s.entries == 0 {
		return refuse(CodeArchive, GateArchive, "the archive holds nothing")
	}
	slices.SortFunc(s.archive.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	s.archive.Digest = digestOf(s.archive.Files)
	return nil
}

// invalid is the refusal of bytes that cannot be read.
func (s *scan) invalid(what string, err error) error {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return &Error{Code: CodeArchive, Gate: GateArchive, Message: what + ": " + err.Error(), Err: err}
}

// entry takes one entry of the tarball.
func (s *scan) entry(h *tar.Header, content io.Reader) error {
	if s.entries++; s.entries > s.limits.Files {
		return refuse(CodeTooLarge, GateArchive, "more than %d files", s.limits.Files)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // git archive writes one
	}
	name, err := s.name(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
	case tar.TypeSymlink, tar.TypeLink:
		return refuse(CodeArchive, GateArchive, "%s is a link to %s; a bundle holds files only", shown(h.Name), shown(h.Linkname))
	default:
		return refuse(CodeArchive, GateArchive, "%s is no regular file (type %q)", shown(h.Name), h.Typeflag)
	}
	if err := special(name); err != nil {
		return err
	}
	if s.seen[name] {
		return refuse(CodeArchive, GateArchive, "%s is there twice", shown(name))
	}
	s.seen[name] = true
	if s.archive.Unpacked += h.Size; s.archive.Unpacked > s.limits.Unpacked {
		return refuse(CodeTooLarge, GateArchive, "more than %d bytes unpacked", s.limits.Unpacked)
	}
	return s.content(name, content)
}

// content reads a file: its digest, and what it says where that is needed
// before anything else.
func (s *scan) content(name string, content io.Reader) error {
	var keep *[]byte
	most := int64(0)
	switch name {
	case manifestName:
		keep, most = &s.archive.manifest, maxManifest
	case signaturesName:
		keep, most = &s.archive.signatures, maxSignatures
	}
	sum := sha256.New()
	var kept strings.Builder
	from := content
	if keep != nil {
		from = io.TeeReader(io.LimitReader(content, most+1), &kept)
	}
	n, err := io.Copy(sum, from)
	if err != nil {
		return s.invalid("not a whole tarball", err)
	}
	if keep != nil {
		if n > most {
			return refuse(CodeTooLarge, GateArchive, "%s is larger than %d bytes", name, most)
		}
		*keep = []byte(kept.String())
	}
	if refused := s.ratio(s.archive.Unpacked); refused != nil {
		return refused
	}
	if name == signaturesName {
		return nil
	}
	f := File{Path: name, Size: n}
	sum.Sum(f.SHA256[:0])
	s.archive.Files = append(s.archive.Files, f)
	return nil
}

// name gives the one spelling of an entry's name, or refuses it. opa build
// starts every name with a slash; one that does among others that do not means
// a place outside of the bundle.
func (s *scan) name(given string) (string, error) {
	absolute := strings.HasPrefix(given, "/")
	if s.absolute == nil {
		s.absolute = &absolute
	}
	drive := len(given) > 1 && given[1] == ':'
	switch {
	case len(given) > maxPath:
		return "", refuse(CodeArchive, GateArchive, "a path of %d bytes, at most %d", len(given), maxPath)
	case !utf8.ValidString(given) || strings.ContainsAny(given, "\x00\\"):
		return "", refuse(CodeArchive, GateArchive, "%s is a path with bytes that a bundle's paths do not have", shown(given))
	case absolute != *s.absolute || strings.HasPrefix(given, "//") || drive:
		return "", refuse(CodeArchive, GateArchive, "%s is an absolute path", shown(given))
	case slices.Contains(strings.Split(given, "/"), ".."):
		return "", refuse(CodeArchive, GateArchive, "%s leads out of the bundle", shown(given))
	}
	return tidy(given), nil
}

// special refuses files that would mean something here or to OPA, but not at
// that place.
func special(name string) error {
	base := path.Base(name)
	switch {
	case base == patchName:
		return refuse(CodeArchive, GateArchive, "%s makes it a delta bundle; push the whole bundle", shown(name))
	case strings.HasSuffix(name, ".manifest.pb"):
		return refuse(CodeArchive, GateArchive, "%s is a manifest in protobuf; write %s", shown(name), manifestName)
	case strings.HasSuffix(name, manifestName) && name != manifestName, base == signaturesName && name != signaturesName:
		return refuse(CodeArchive, GateArchive, "%s does not stand at the root of the bundle", shown(name))
	}
	return nil
}

func tidy(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// shown is a name for a message.
func shown(name string) string {
	if len(name) > 200 {
		name = name[:200] + "..."
	}
	return fmt.Sprintf("%q", name)
}

// digestOf is SHA-256 over the sorted list of (path, SHA-256 of the bytes):
//
//	path, a zero byte, 64 hex digits, a line feed
func digestOf(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s\x00%x\n", f.Path, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}
