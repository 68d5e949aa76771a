package bundles

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage"
)

// Origin is who asks for a change, for the records.
type Origin struct {
	Caller, ClientIP, UserAgent, Edge, CorrelationID, TraceID string
	// Source is the URL that a pulled bundle came from, without a secret; empty:
	// somebody pushed it.
	Source string
}

// PushRequest is a bundle that somebody brings.
type PushRequest struct {
	Name string
	Body io.Reader
	// ContentDigest is the field of that name (RFC 9530); empty: none.
	ContentDigest string
	// IfMatch are revisions or digests, one of which must be active; "*" is
	// any. Nil asks for nothing.
	IfMatch []string
	// IfNone asks that no revision is active.
	IfNone bool
	// Keep accepts the bundle without making it active, DryRun does not even
	// keep it.
	Keep, DryRun bool
	// Poll says that nobody asked but a clock: it leaves no record when the
	// bundle is active already.
	Poll bool
	By   Origin
}

// PushResult is what became of a push that was not refused.
type PushResult struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	// Status is active, kept, unchanged (it was active already) or dry_run.
	Status   string       `json:"status"`
	Active   bool         `json:"active"` // it answers now
	Size     int64        `json:"size"`
	Unpacked int64        `json:"unpacked"`
	Files    int          `json:"files"`
	Signer   *Signer      `json:"signer,omitempty"`
	Gates    []GateResult `json:"gates"`
	// Previous is the revision that was active before; empty: none.
	Previous string   `json:"previous,omitempty"`
	Changes  *Changes `json:"changes,omitempty"`
	// Unconfirmed is why what is active does not become younger by the push of it;
	// empty: it does.
	Unconfirmed string `json:"unconfirmed,omitempty"`
	// ETag is what If-Match takes.
	ETag string `json:"-"`
}

// Push takes a bundle through its gates, keeps it, and makes it active. Errors
// are *Error, an error of reading the body, or one of the machine. The policy
// that answers does not change unless the result says so; a refusal is in the
// audit log when Push returns.
func (s *Service) Push(ctx context.Context, p PushRequest) (*PushResult, error) {
	if err := s.checkName(p.Name); err != nil {
		return nil, s.recordRefusal(ctx, p, err)
	}
	free, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	if err := s.current().match(p.Name, p.IfMatch, p.IfNone); err != nil {
		return nil, s.recordRefusal(ctx, p, err)
	}
	file, err := s.disk.incoming()
	if err != nil {
		return nil, fmt.Errorf("receive bundle: %w", err)
	}
	defer func() { // does nothing once the archive is kept elsewhere
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	start := s.o.Now()
	a, err := s.receive(p, file)
	took := millis(s.o.Now().Sub(start))
	if err != nil {
		return nil, s.recordRefusal(ctx, p, archiveRefusal(err, took))
	}
	unlock, err := lock(ctx, s.judging)
	if err != nil {
		return nil, fmt.Errorf("wait for other pushes: %w", err)
	}
	defer unlock()
	archive := GateResult{Name: GateArchive, Result: Passed, Millis: took, Details: infoOf(a)}
	var result *PushResult
	err = s.o.Background(func() (err error) {
		result, err = s.judge(ctx, p, a, archive)
		return err
	})
	if err != nil {
		return nil, s.recordRefusal(ctx, p, err)
	}
	return result, nil
}

// turn waits until another archive may come in.
func (s *Service) turn(ctx context.Context) (free func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, uploadWait)
	defer cancel()
	if free, err = lock(waiting, s.uploads); err != nil && ctx.Err() == nil {
		return nil, &Error{Code: CodeBusy, Message: "too many bundles are being pushed", RetryAfter: busyRetry}
	}
	return free, err
}

// archiveRefusal puts the gate's result into a refusal by the gate "archive".
func archiveRefusal(err error, took float64) error {
	refused, ok := errors.AsType[*Error](err)
	if ok && refused.Gate == GateArchive {
		refused.Gates = []GateResult{{Name: GateArchive, Result: Failed, Millis: took, Message: refused.Message}}
	}
	return err
}

func infoOf(a *Archive) ArchiveInfo {
	return ArchiveInfo{SHA256: hex.EncodeToString(a.SHA256[:]), Size: a.Size, Unpacked: a.Unpacked, Files: len(a.Files)}
}

// receive writes the archive to disk and compares it with its Content-Digest.
func (s *Service) receive(p PushRequest, file *os.File) (*Archive, error) {
	want, err := parseContentDigest(p.ContentDigest)
	if err != nil {
		return nil, err
	}
	a, err := receive(want.tee(p.Body), file, s.o.Limits)
	if err != nil {
		return nil, err
	}
	if err := want.check(); err != nil {
		return nil, err
	}
	if err := s.fault("received"); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return a, nil
}

// judge sends the archive through the gates and does what was asked for. The
// holder of judging calls it.
func (s *Service) judge(ctx context.Context, p PushRequest, a *Archive, archive GateResult) (*PushResult, error) {
	result := &PushResult{Name: p.Name, Digest: a.Digest, Size: a.Size, Unpacked: a.Unpacked, Files: len(a.Files)}
	now := s.current()
	if entry, ok := now.Bundles[p.Name]; ok && entry.Digest == a.Digest {
		if err := now.match(p.Name, p.IfMatch, p.IfNone); err != nil {
			return nil, err
		}
		result.Revision, result.Status, result.Active, result.ETag = entry.Revision, "unchanged", true, etag(entry.Revision)
		result.Gates = []GateResult{archive}
		if !p.Poll {
			if err := s.recordPush(ctx, p, result); err != nil || p.DryRun {
				return result, err
			}
		}
		return result, s.confirmPushed(ctx, p.Name, a, result)
	}
	c := &Candidate{Name: p.Name, By: p.By, Archive: a, Active: s.activeBundle(p.Name)}
	results, err := s.pass(ctx, c, archive)
	result.Gates, result.Signer = results, &c.Signer
	if err != nil {
		return nil, s.keepRefused(ctx, p, c, results, err)
	}
	if result.Changes, err = changesOf(c); err != nil {
		return nil, err
	}
	result.Revision = c.Bundle.Revision
	if c.Active != nil {
		result.Previous = c.Active.Revision
	}
	if p.DryRun {
		result.Status = "dry_run"
		return result, s.recordPush(ctx, p, result)
	}
	// Everything is decided: what follows does not stop when the caller leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := s.accept(ctx, p, c, result); err != nil {
		return nil, err
	}
	result.Status, result.ETag = string(StatusKept), etag(result.Revision)
	if p.Keep {
		return result, nil
	}
	if err := s.activatePushed(ctx, p, c, result); err != nil {
		return result, err
	}
	s.believe(p.Name, a, c.Signer)
	return result, nil
}

// confirmPushed confirms the active content, since somebody who may vouch for it
// pushed it again. What nobody vouches for any more gets no younger, and the
// result says why.
func (s *Service) confirmPushed(ctx context.Context, name string, a *Archive, result *PushResult) error {
	by, err := s.o.Verifier.Verify(name, a)
	if err != nil {
		result.Unconfirmed = bounded(err.Error())
		return nil
	}
	s.believe(name, a, by)
	err = s.Confirm(ctx, name, a.Digest)
	if refused, ok := errors.AsType[*Error](err); ok {
		result.Unconfirmed = refused.Message // another became active, or a key ended, meanwhile
		return nil
	}
	return err
}

// activeBundle is the pushed bundle of that name that answers now.
func (s *Service) activeBundle(name string) *eval.Bundle {
	if _, ok := s.current().Bundles[name]; !ok {
		return nil
	}
	for _, b := range s.o.Engine.Active().Bundles() {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// accept keeps the archive and writes down that it was accepted.
func (s *Service) accept(ctx context.Context, p PushRequest, c *Candidate, result *PushResult) error {
	unlock, err := lock(ctx, s.changing)
	if err != nil {
		return fmt.Errorf("wait for other changes: %w", err)
	}
	defer unlock()
	if err := s.current().match(p.Name, p.IfMatch, p.IfNone); err != nil {
		return err
	}
	// What was accepted before and never active is there already.
	if old, err := s.meta.revision(ctx, p.Name, result.Revision); err == nil && old.Digest == result.Digest {
		return s.recordPush(ctx, p, result)
	}
	if err := s.fault("before keep"); err != nil {
		return err
	}
	if err := s.disk.keep(c.Archive); err != nil {
		return err
	}
	sum := hex.EncodeToString(c.Archive.SHA256[:])
	err = func() error {
		if err := s.fault("kept"); err != nil {
			return err
		}
		if err := s.recordPush(ctx, p, result); err != nil {
			return err
		}
		if err := s.fault("recorded"); err != nil {
			return err
		}
		return s.writeAccepted(ctx, p, c, result)
	}()
	if err != nil {
		if errors.Is(err, storage.ErrUncertain) {
			return err // it may be needed; the next start knows
		}
		return errors.Join(err, s.disk.release(sum))
	}
	s.retain(ctx, p.Name)
	return nil
}

func (s *Service) writeAccepted(ctx context.Context, p PushRequest, c *Candidate, result *PushResult) error {
	name, err := s.meta.name(ctx, p.Name)
	if err != nil {
		return err
	}
	digest, err := s.meta.digest(ctx, p.Name, result.Digest)
	if err != nil {
		return err
	}
	name.Number++
	if c.serial != nil {
		name.Serial = c.serial
	}
	r := s.revisionOf(p, c, result.Gates)
	r.Number, r.Status = name.Number, StatusKept
	digest.Revision = result.Revision
	b := &batch{}
	b.put(storage.Key(keyRevision, p.Name, result.Revision), r, 0)
	b.put(storage.Key(keyName, p.Name), name, name.version)
	b.put(storage.Key(keyDigest, p.Name, result.Digest), digest, digest.version)
	if used, err := s.meta.used(ctx, p.Name, result.Revision); err != nil {
		return err
	} else if used == "" {
		b.put(storage.Key(keyUsed, p.Name, result.Revision), result.Digest, 0)
	}
	if err := s.rememberStatement(ctx, b, c); err != nil {
		return err
	}
	_, err = s.meta.apply(ctx, b)
	return err
}

func (s *Service) revisionOf(p PushRequest, c *Candidate, gates []GateResult) *Revision {
	r := &Revision{
		Name: p.Name, Digest: c.Archive.Digest, Serial: c.serial, Archive: infoOf(c.Archive), Signer: c.Signer, Gates: gates,
		PushedAt: s.o.Now().UTC(), PushedBy: p.By.Caller, PushedFrom: cmp.Or(p.By.ClientIP, p.By.Source),
	}
	switch {
	case c.Bundle != nil:
		r.Revision, r.Roots, r.Modules, r.Tests = c.Bundle.Revision, c.Bundle.Roots, len(c.Bundle.Modules), len(c.Tests)
	case c.manifest != nil:
		r.Revision, r.Roots = c.manifest.Revision, *c.manifest.Roots
	}
	if r.Revision == "" {
		r.Revision = c.Archive.Digest[:shortRevision]
	}
	return r
}

// keepRefused keeps a bundle that a gate behind the signature refused, so that
// it can be looked at, and returns the refusal.
func (s *Service) keepRefused(ctx context.Context, p PushRequest, c *Candidate, gates []GateResult, err error) error {
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	r := s.revisionOf(p, c, gates)
	r.Status = StatusRefused
	refused.Gates, refused.Revision, refused.Digest = gates, r.Revision, r.Digest
	// One that nobody vouches for is not kept, and one that was accepted once is
	// there already.
	if p.DryRun || refused.Gate == GateSignature || refused.Code == CodePast || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	unlock, lockErr := lock(ctx, s.changing)
	if lockErr != nil {
		return err
	}
	defer unlock()
	if keepErr := s.writeRefused(ctx, c, r); keepErr != nil {
		s.o.Logger.Error().Err(keepErr).Str("bundle", p.Name).Msg("a refused bundle could not be kept")
	}
	return err
}

func (s *Service) writeRefused(ctx context.Context, c *Candidate, r *Revision) error {
	key := storage.Key(keyRefused, r.Name, r.Digest)
	old := &Revision{}
	version, err := s.meta.get(ctx, key, old)
	if err != nil {
		return err
	}
	if version == 0 {
		if err := s.disk.keep(c.Archive); err != nil {
			return err
		}
	} else {
		r.Archive = old.Archive // the same content, packed then
	}
	b := &batch{}
	b.put(key, r, version)
	if _, err := s.meta.apply(ctx, b); err != nil {
		if version == 0 && !errors.Is(err, storage.ErrUncertain) {
			return errors.Join(err, s.disk.release(r.Archive.SHA256))
		}
		return err
	}
	s.retain(ctx, r.Name)
	return nil
}

// checkHistory is the gate against a quiet return to the past.
func (s *Service) checkHistory(ctx context.Context, c *Candidate) (Finding, error) {
	revision := c.manifest.Revision
	if revision == "" {
		revision = c.Archive.Digest[:shortRevision]
	}
	known, err := s.meta.digest(ctx, c.Name, c.Archive.Digest)
	if err != nil {
		return Finding{}, err
	}
	if known.Activated {
		return Finding{}, refuse(CodePast, GateHistory, "this content was active before, as revision %q; to return to it call POST /api/v1/bundles/%s/rollback {\"revision\": %q}", known.Revision, c.Name, known.Revision)
	}
	used, err := s.meta.used(ctx, c.Name, revision)
	if err != nil {
		return Finding{}, err
	}
	if used != "" && used != c.Archive.Digest {
		return Finding{}, refuse(CodeUsed, GateHistory, "the revision %q is in use for other content, of digest %s", revision, used)
	}
	if err := s.checkStatement(ctx, c); err != nil {
		return Finding{}, err
	}
	name, err := s.meta.name(ctx, c.Name)
	if err != nil {
		return Finding{}, err
	}
	if c.serial == nil || name.Serial == nil || *c.serial > *name.Serial {
		return Finding{}, nil
	}
	if again := *c.serial == *name.Serial && known.version != 0; !again {
		return Finding{}, refuse(CodeSerial, GateHistory, "verdict.serial is %d and must be above %d", *c.serial, *name.Serial)
	}
	return Finding{}, nil
}

// match checks what a request expects of the active revision.
func (a activeSet) match(name string, ifMatch []string, ifNone bool) error {
	entry, active := a.Bundles[name]
	switch {
	case ifNone && active:
		return refuse(CodePrecondition, "", "revision %q is active, and none was expected to be", entry.Revision).about("If-None-Match")
	case ifMatch == nil, active && slices.Contains(ifMatch, "*"),
		active && (slices.Contains(ifMatch, entry.Revision) || slices.Contains(ifMatch, entry.Digest)):
		return nil
	case !active:
		return refuse(CodePrecondition, "", "no revision is active").about("If-Match")
	}
	return refuse(CodePrecondition, "", "revision %q is active, and another was expected to be", entry.Revision).about("If-Match")
}

// with is the set after a change; an empty revision takes the bundle out.
func (a activeSet) with(changes map[string]*Revision, at time.Time) activeSet {
	next := activeSet{Number: a.Number + 1, At: at, Bundles: maps.Clone(a.Bundles), version: a.version}
	for name, r := range changes {
		if r == nil {
			delete(next.Bundles, name)
			continue
		}
		next.Bundles[name] = activeEntry{Revision: r.Revision, Digest: r.Digest, Since: at, Previous: a.Bundles[name].Revision}
	}
	return next
}

// severityOf weighs a refusal.
func severityOf(e *Error) audit.Severity {
	if e != nil && (e.Gate == GateSignature || e.Gate == GateArchive || e.Gate == GateHistory) {
		return audit.SeverityHigh
	}
	return audit.SeverityMedium
}
