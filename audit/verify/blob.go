package verify

import (
	"crypto/sha256"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// wanted is a blob that records refer to.
type wanted struct {
	seq   uint64 // of the first that does
	size  uint64
	found bool
}

func (r *run) want(f ref) {
	if r.refs == nil {
		r.refs = map[chain.Hash]wanted{}
	}
	if _, ok := r.refs[f.sum]; !ok {
		r.refs[f.sum] = wanted{seq: f.seq, size: f.size}
	}
}

// blobs compares the blobs of a file with the records that refer to them.
func (r *run) blobs(n uint64) error {
	unused := 0
	err := r.src.Walk(r.ctx, n, "blob", func(key, value []byte) error {
		r.rep.Bytes += uint64(len(value))
		var sum chain.Hash
		if len(key) != len(sum) {
			return r.foreign("blob", key, r.first)
		}
		copy(sum[:], key)
		w, ok := r.refs[sum]
		if !ok {
			unused++
		} else {
			w.found = true
			r.refs[sum] = w
		}
		if sha256.Sum256(value) != sum || (ok && w.size != uint64(len(value))) {
			r.find(max(w.seq, r.first), max(w.seq, r.first), KindBlobAltered, "blob %s is not what was hashed", sum)
		}
		return r.ctx.Err()
	})
	if err != nil {
		return err
	}
	for sum, w := range r.refs {
		if !w.found {
			r.find(w.seq, w.seq, KindBlobMissing, "blob %s is not there", sum)
		}
	}
	if unused > 0 && !r.opts.Live {
		r.warn("file %s: %d blobs that no record refers to", r.name, unused)
	}
	return nil
}
