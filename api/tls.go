package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// CodeHandshake is the code of a Refusal that tells of a failed TLS handshake.
const CodeHandshake = "tls_handshake"

// CodeCertificate is the code of a refusal for a client certificate that was good
// when its connection began.
const CodeCertificate = "certificate_refused"

// ClientCertificates tells whether client certificates are still good;
// cert.Keeper is one.
type ClientCertificates interface {
	// Refused tells why none of the verified chains of a connection is good now,
	// or nil. It is asked with every request on a connection with a client
	// certificate, must be safe for concurrent use and must not block. An error
	// with a method Reason, which gives one of a few words, is counted by that
	// word when a handshake ends with it.
	Refused(chains [][]*x509.Certificate) error
}

// connectionRefused tells why nothing is answered any more on the request's
// connection: its client certificate would not get through the handshake now.
// It holds for every request, with a token too.
func (g *Gate) connectionRefused(r *http.Request) *Error {
	if g.o.Certificates == nil || r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	err := g.o.Certificates.Refused(r.TLS.VerifiedChains)
	if err == nil {
		return nil
	}
	return &Error{Status: http.StatusUnauthorized, Code: CodeCertificate, Message: "the client certificate of this connection is not accepted any more: " + err.Error()}
}

// failedHandshake tells of a connection that ended before its handshake did; it
// is called when a connection of an http.Server has ended.
func (s *Server) failedHandshake(l Listener, conn net.Conn) {
	t, ok := conn.(*tls.Conn)
	if !ok || t.ConnectionState().HandshakeComplete {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// A handshake that has failed gives its error again, and the connection is
	// closed.
	if err := t.HandshakeContext(ctx); err != nil {
		s.HandshakeFailed(l, conn.RemoteAddr(), err)
	}
}

// HandshakeFailed counts a failed handshake, and records it at a bounded rate
// unless the client did no more than go away. It is for listeners that others
// serve.
func (s *Server) HandshakeFailed(l Listener, remote net.Addr, err error) {
	reason := handshakeReason(err)
	s.handshakes.WithLabelValues(l.String(), reason).Inc()
	s.o.Logger.Debug().Err(err).Stringer("listener", l).Str("reason", reason).Msg("a TLS handshake failed")
	if s.o.Refusals == nil || reason == "aborted" {
		return
	}
	r := Refusal{Code: CodeHandshake, Message: "the TLS handshake failed: " + reason, Class: classes, Listener: l}
	if ap, err := netip.ParseAddrPort(remote.String()); err == nil {
		r.Client = middleware.Client{Peer: ap.Addr().Unmap(), Addr: ap.Addr().Unmap()}
	}
	s.o.Refusals.Record(context.Background(), r)
}

// handshakeReason gives one of a few words for what went wrong.
func handshakeReason(err error) string {
	if e, ok := errors.AsType[interface {
		error
		Reason() string
	}](err); ok {
		return e.Reason()
	}
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, gone) {
			return "aborted"
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "not_tls"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "unknown_authority"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch e.Reason {
		case x509.Expired:
			return "expired"
		case x509.IncompatibleUsage:
			return "usage"
		}
		return "certificate"
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timeout"
	}
	return handshakeWord(err.Error())
}

// handshakeWord goes by what crypto/tls says where its errors have no type.
func handshakeWord(text string) string {
	for _, w := range []struct{ text, reason string }{
		{"remote error:", "refused_by_client"},
		{"unsupported versions", "version"},
		{"cipher suite", "cipher"},
		{"no certificate to serve", "no_certificate"},
		{"application protocol", "protocol"},
		{"certificate", "certificate"},
	} {
		if strings.Contains(text, w.text) {
			return w.reason
		}
	}
	return "other"
}
