package bundles

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"io"
	"net/url"
	"strings"
)

// contentDigest checks what comes in against a field Content-Digest (RFC 9530,
// section 2). The zero value checks nothing.
type contentDigest struct {
	sums []wantedSum
}

type wantedSum struct {
	name string
	hash hash.Hash
	want []byte
}

// parseContentDigest reads the field: a dictionary of byte sequences (RFC
// 8941). Algorithms that are not known are passed over, unless there is no
// other: a check that was asked for is made.
func parseContentDigest(field string) (*contentDigest, error) {
	d := &contentDigest{}
	if field == "" {
		return d, nil
	}
	for member := range strings.SplitSeq(field, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(member), "=")
		value, _, _ = strings.Cut(value, ";")
		if !ok || len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			return nil, refuse(CodeDigest, "", "Content-Digest: write sha-256=:BASE64:").about("Content-Digest")
		}
		want, err := base64.StdEncoding.DecodeString(value[1 : len(value)-1])
		if err != nil {
			return nil, refuse(CodeDigest, "", "Content-Digest: %s: no base64", shown(name)).about("Content-Digest")
		}
		switch name {
		case "sha-256":
			d.sums = append(d.sums, wantedSum{name, sha256.New(), want})
		case "sha-512":
			d.sums = append(d.sums, wantedSum{name, sha512.New(), want})
		}
	}
	if len(d.sums) == 0 {
		return nil, refuse(CodeDigest, "", "Content-Digest: sha-256 and sha-512 are known here").about("Content-Digest")
	}
	return d, nil
}

// tee hashes what is read from r.
func (d *contentDigest) tee(r io.Reader) io.Reader {
	for _, s := range d.sums {
		r = io.TeeReader(r, s.hash)
	}
	return r
}

func (d *contentDigest) check() error {
	for _, s := range d.sums {
		if !bytes.Equal(s.hash.Sum(nil), s.want) {
			return refuse(CodeDigest, "", "what arrived is not what Content-Digest (%s) says", s.name).about("Content-Digest")
		}
	}
	return nil
}

// etag is the entity tag of a bundle whose active revision this is.
func etag(revision string) string { return `"` + url.PathEscape(revision) + `"` }

// ParseETags reads If-Match: entity tags, or revisions without quotes; nil for
// no field.
func ParseETags(fields []string) []string {
	var tags []string
	for _, field := range fields {
		for tag := range strings.SplitSeq(field, ",") {
			tag = strings.Trim(strings.TrimSpace(tag), `"`)
			if plain, err := url.PathUnescape(tag); err == nil {
				tag = plain
			}
			tags = append(tags, tag)
		}
	}
	return tags
}
