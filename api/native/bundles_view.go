package native

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
)

// maxBundlePage is how many entries a page of a list has, and the default.
const maxBundlePage = 1000

// bundleList answers GET /api/v1/bundles.
func (s *Server) bundleList(w http.ResponseWriter, r *http.Request) {
	if !parameters(w, r, "limit", "cursor") {
		return
	}
	limit, ok := pageSize(w, r)
	if !ok {
		return
	}
	list, next, err := s.o.Bundles.List(r.Context(), r.URL.Query().Get("cursor"), limit)
	if err != nil {
		s.bundleError(w, r, err, "list bundles")
		return
	}
	s.reply(w, struct {
		Bundles []bundles.Summary `json:"bundles"`
		Cursor  string            `json:"cursor,omitempty"`
	}{list, next})
}

func pageSize(w http.ResponseWriter, r *http.Request) (int, bool) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return maxBundlePage, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxBundlePage {
		fail(w, http.StatusBadRequest, "invalid_parameter", "limit is a number from 1 to 1000", "limit")
		return 0, false
	}
	return n, true
}

// bundle answers GET /api/v1/bundles/{name}.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) {
	found, err := s.o.Bundles.Bundle(r.Context(), param(r, "name"))
	if err != nil {
		s.bundleError(w, r, err, "read bundle")
		return
	}
	if found.ETag != "" {
		w.Header().Set("ETag", found.ETag)
	}
	s.reply(w, found)
}

// revisionList answers GET /api/v1/bundles/{name}/revisions.
func (s *Server) revisionList(w http.ResponseWriter, r *http.Request) {
	if !parameters(w, r, "limit", "cursor") {
		return
	}
	limit, ok := pageSize(w, r)
	if !ok {
		return
	}
	var before uint64
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		if before, ok = number(w, cursor, "cursor"); !ok {
			return
		}
	}
	list, next, err := s.o.Bundles.Revisions(r.Context(), param(r, "name"), before, limit)
	if err != nil {
		s.bundleError(w, r, err, "list revisions")
		return
	}
	cursor := ""
	if next > 0 {
		cursor = strconv.FormatUint(next, 10)
	}
	s.reply(w, struct {
		Revisions []*bundles.Revision `json:"revisions"`
		Cursor    string              `json:"cursor,omitempty"`
	}{list, cursor})
}

// revision answers GET /api/v1/bundles/{name}/revisions/{rev}.
func (s *Server) revision(w http.ResponseWriter, r *http.Request) {
	found, err := s.o.Bundles.Revision(r.Context(), param(r, "name"), param(r, "rev"))
	if err != nil {
		s.bundleError(w, r, err, "read revision")
		return
	}
	s.reply(w, found)
}

// archive answers GET /api/v1/bundles/{name}/revisions/{rev}/archive with the
// bytes that were pushed.
func (s *Server) archive(w http.ResponseWriter, r *http.Request) {
	found, file, err := s.o.Bundles.Archive(r.Context(), param(r, "name"), param(r, "rev"))
	if err != nil {
		s.bundleError(w, r, err, "read archive")
		return
	}
	defer file.Close()
	h := w.Header()
	h.Set("Content-Type", "application/gzip")
	h.Set("ETag", `"`+found.Archive.SHA256+`"`)
	if sum, err := hex.DecodeString(found.Archive.SHA256); err == nil {
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	http.ServeContent(w, r, "", time.Time{}, file)
}

// bundleDiff answers GET /api/v1/bundles/{name}/diff?from=REV&to=REV.
func (s *Server) bundleDiff(w http.ResponseWriter, r *http.Request) {
	if !parameters(w, r, "from", "to") {
		return
	}
	q := r.URL.Query()
	from, to := q.Get("from"), q.Get("to")
	if from == "" || to == "" {
		fail(w, http.StatusBadRequest, "invalid_parameter", "from and to name two revisions", "from")
		return
	}
	changes, err := s.o.Bundles.Diff(r.Context(), param(r, "name"), from, to)
	if err != nil {
		s.bundleError(w, r, err, "compare revisions")
		return
	}
	s.reply(w, changes)
}
