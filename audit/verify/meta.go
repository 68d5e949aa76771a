package verify

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/verdict-pdp/verdict/audit/chain"
)

const (
	format = 1

	// maxMeta bounds the entries of bucket meta that are kept, maxMetaValue each.
	maxMeta      = 64
	maxMetaValue = 4096
)

// meta is what a file says about itself. The known fields tell which parts were
// there and well formed.
type meta struct {
	known  map[string]bool
	format uint32
	origin string
	first  uint64
	next   uint64
	head   chain.Hash
	prev   chain.Hash
	time   int64
	sealed bool
	tree   []part
	marks  []byte
}

// part is one perfect subtree of a compact range.
type part struct {
	level int
	root  chain.Hash
}

var metaNames = []string{"format", "origin", "first", "next", "head", "prev", "tree", "time"}

// readMeta reads bucket meta. problems lists what is missing or malformed.
func (r *run) readMeta(file uint64) (m meta, problems []string, err error) {
	values := map[string][]byte{}
	err = r.src.Walk(r.ctx, file, "meta", func(key, value []byte) error {
		if len(values) < maxMeta && len(key) <= maxMetaValue && len(value) <= maxMetaValue {
			values[string(key)] = slices.Clone(value)
		}
		return nil
	})
	m.known = map[string]bool{}
	for _, name := range metaNames {
		if v, ok := values[name]; !ok {
			problems = append(problems, name+" is missing")
		} else if !m.set(name, v) {
			problems = append(problems, name+" is malformed")
		} else {
			m.known[name] = true
		}
		delete(values, name)
	}
	if v, ok := values["sealed"]; ok {
		if m.sealed = slices.ContainsFunc(v, func(b byte) bool { return b != 0 }); len(v) == 0 || len(v) > 8 {
			problems = append(problems, "sealed is malformed")
		}
	}
	m.marks, m.known["marks"] = values["marks"], values["marks"] != nil
	if m.known["next"] && (m.next < r.first || m.next > r.end) {
		problems = append(problems, fmt.Sprintf("next is %d, outside the file", m.next))
		m.known["next"] = false
	}
	if m.known["tree"] && m.known["next"] && treeSize(m.tree) != m.next {
		problems = append(problems, fmt.Sprintf("tree has %d leaves and next is %d", treeSize(m.tree), m.next))
		m.known["tree"] = false
	}
	for _, name := range []string{"sealed", "marks", "size"} {
		delete(values, name)
	}
	for name := range values {
		r.warn("file %s: bucket meta has the unknown entry %q", r.name, name)
	}
	return m, problems, err
}

func (m *meta) set(name string, v []byte) bool {
	switch name {
	case "format":
		return setUint32(&m.format, v)
	case "origin":
		m.origin = string(v)
		return len(v) > 0
	case "first":
		return setUint64(&m.first, v)
	case "next":
		return setUint64(&m.next, v)
	case "head":
		return setHash(&m.head, v)
	case "prev":
		return setHash(&m.prev, v)
	case "time":
		var t uint64
		ok := setUint64(&t, v)
		m.time = int64(t)
		return ok
	}
	parts, ok := parseTree(v)
	m.tree = parts
	return ok
}

func setUint32(dst *uint32, v []byte) bool {
	if len(v) != 4 {
		return false
	}
	*dst = binary.BigEndian.Uint32(v)
	return true
}

func setUint64(dst *uint64, v []byte) bool {
	if len(v) != 8 {
		return false
	}
	*dst = binary.BigEndian.Uint64(v)
	return true
}

func setHash(dst *chain.Hash, v []byte) bool {
	if len(v) != len(dst) {
		return false
	}
	copy(dst[:], v)
	return true
}

// parseTree reads a compact range: the size, then the roots of the perfect
// subtrees, largest first.
func parseTree(v []byte) ([]part, bool) {
	if len(v) < 8 || (len(v)-8)%chain.HashSize != 0 {
		return nil, false
	}
	size, v := binary.BigEndian.Uint64(v), v[8:]
	var out []part
	for level := 63; level >= 0; level-- {
		if size>>level&1 == 0 {
			continue
		}
		if len(v) == 0 {
			return nil, false
		}
		p := part{level: level}
		copy(p.root[:], v)
		out, v = append(out, p), v[chain.HashSize:]
	}
	return out, len(v) == 0
}

func treeSize(parts []part) (n uint64) {
	for _, p := range parts {
		n += 1 << p.level
	}
	return n
}

// parts returns the compact range of a tree that was computed here.
func parts(t *chain.Tree) []part {
	b, _ := t.MarshalBinary() // never fails
	out, _ := parseTree(b)
	return out
}

// row is one entry of bucket tile, or of seg (then with times).
type row struct {
	present     bool
	head, root  chain.Hash
	first, last int64
	marks       []byte
}

const hashPair = 2 * chain.HashSize

// readRows reads bucket tile or seg: one row for every 2^bits records of the file.
func (r *run) readRows(file uint64, bucket string, bits int) ([]row, error) {
	rows := make([]row, 1<<(r.lay.file-bits))
	base := r.first >> bits
	kind := KindTile
	if bucket == "seg" {
		kind = KindSegment
	}
	err := r.src.Walk(r.ctx, file, bucket, func(key, value []byte) error {
		if len(key) != 8 || binary.BigEndian.Uint64(key)-base >= uint64(len(rows)) {
			return r.foreign(bucket, key, r.first)
		}
		n := binary.BigEndian.Uint64(key)
		if r.meta.known["next"] && (n+1)<<bits > r.meta.next {
			if !r.opts.Live {
				r.find(n<<bits, n<<bits, kind, "row %d of bucket %s is behind the stated end", n, bucket)
			}
			return nil
		}
		w := row{present: true}
		if bucket == "seg" && len(value) == 16+hashPair {
			w.first, w.last = int64(binary.BigEndian.Uint64(value)), int64(binary.BigEndian.Uint64(value[8:]))
			value = value[16:]
		} else if full := hashPair + markSize<<bits; bucket == "tile" && len(value) == full {
			value, w.marks = value[:hashPair], slices.Clone(value[hashPair:])
		}
		if len(value) != hashPair {
			r.find(n<<bits, (n+1)<<bits-1, kind, "row %d of bucket %s is malformed", n, bucket)
			return nil
		}
		copy(w.head[:], value)
		copy(w.root[:], value[chain.HashSize:])
		rows[n-base] = w
		return nil
	})
	return rows, err
}
