package httpcheck

import (
	"encoding/base64"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// builder makes one input. What is set in nearly every request is written out
// here; all else goes through message, which knows any message. Both give the
// same document, and a test holds them together.
type builder struct {
	names *names
	left  int // members that the document may still have
	depth int
	err   error
	slab  []ast.Term // not in use yet; terms of one input are allocated together
}

// slabSize is how many terms a usual request has.
const slabSize = 64

func (b *builder) term(v ast.Value) *ast.Term {
	if len(b.slab) == 0 {
		b.slab = make([]ast.Term, slabSize)
	}
	t := &b.slab[0]
	b.slab = b.slab[1:]
	t.Value = v
	return t
}

func (b *builder) textTerm(s string) *ast.Term { return b.term(ast.String(s)) }

// object collects the members of one object that are set.
type object struct {
	*builder
	items [][2]*ast.Term
}

func (b *builder) object(room int) *object {
	return &object{builder: b, items: make([][2]*ast.Term, 0, room)}
}

func (o *object) value() ast.Object { return ast.NewObject(o.items...) }

func (o *object) put(key *ast.Term, v ast.Value) {
	if v != nil {
		o.items = append(o.items, ast.Item(key, o.term(v)))
	}
}

// text puts a string that is set; proto3 has no other empty one.
func (o *object) text(key *ast.Term, s string) {
	if s != "" {
		o.items = append(o.items, ast.Item(key, o.textTerm(s)))
	}
}

func (o *object) number(key *ast.Term, n int64) {
	if n != 0 {
		o.items = append(o.items, ast.Item(key, integer(n)))
	}
}

func integer(n int64) *ast.Term {
	if n >= 0 && n < 1<<31 {
		return ast.InternedTerm(int(n))
	}
	return ast.NewTerm(ast.Number(strconv.FormatInt(n, 10)))
}

// texts puts a map of strings.
func (o *object) texts(key *ast.Term, m map[string]string) {
	if len(m) == 0 || !o.spend(len(m)) {
		return
	}
	items := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		items = append(items, ast.Item(o.key(k), o.textTerm(v)))
	}
	o.put(key, ast.NewObject(items...))
}

// key is the term of a key: that of a usual header is made once.
func (b *builder) key(s string) *ast.Term {
	if t, ok := b.names.usual[s]; ok {
		return t
	}
	return b.textTerm(s)
}

// spend takes members off what the document may have.
func (b *builder) spend(members int) bool {
	if b.left -= members; b.left < 0 {
		b.err = errTooLarge
	}
	return b.err == nil
}

// attributes is the member of that name; nil when there is none.
func (b *builder) attributes(a *authv3.AttributeContext) ast.Object {
	if a == nil {
		return nil
	}
	n, o := b.names, b.object(6)
	o.put(n.source, b.peer(a.Source))
	o.put(n.destination, b.peer(a.Destination))
	o.put(n.request, b.request(a.Request))
	o.texts(n.contextExtensions, a.ContextExtensions)
	if a.MetadataContext != nil {
		o.put(n.metadataContext, b.message(a.MetadataContext.ProtoReflect(), 2))
	}
	if a.RouteMetadataContext != nil {
		o.put(n.routeMetadataContext, b.message(a.RouteMetadataContext.ProtoReflect(), 2))
	}
	if a.TlsSession != nil {
		o.put(n.tlsSession, b.message(a.TlsSession.ProtoReflect(), 2))
	}
	return o.value()
}

func (b *builder) peer(p *authv3.AttributeContext_Peer) ast.Value {
	if p == nil {
		return nil
	}
	n, o := b.names, b.object(5)
	if p.Address != nil {
		o.put(n.address, b.address(p.Address))
	}
	o.text(n.service, p.Service)
	o.texts(n.labels, p.Labels)
	o.text(n.principal, p.Principal)
	o.text(n.certificate, p.Certificate)
	return o.value()
}

func (b *builder) address(a *corev3.Address) ast.Value {
	socket, ok := a.Address.(*corev3.Address_SocketAddress)
	if !ok || socket.SocketAddress == nil {
		return b.message(a.ProtoReflect(), 3)
	}
	n, o, s := b.names, b.object(3), socket.SocketAddress
	o.number(n.protocol, int64(s.Protocol))
	o.text(n.address, s.Address)
	switch port := s.PortSpecifier.(type) {
	case *corev3.SocketAddress_PortValue:
		o.items = append(o.items, ast.Item(n.portValue, integer(int64(port.PortValue))))
	case *corev3.SocketAddress_NamedPort:
		o.items = append(o.items, ast.Item(n.namedPort, b.textTerm(port.NamedPort)))
	}
	o.text(n.resolverName, s.ResolverName)
	if s.Ipv4Compat {
		o.put(n.ipv4Compat, ast.Boolean(true))
	}
	o.text(n.networkNamespace, s.NetworkNamespaceFilepath)
	return ast.NewObject(ast.Item(n.socketAddress, b.term(o.value())))
}

func (b *builder) request(r *authv3.AttributeContext_Request) ast.Value {
	if r == nil {
		return nil
	}
	n, o := b.names, b.object(2)
	if r.Time != nil {
		o.put(n.time, b.timestamp(r.Time))
	}
	if r.Http != nil {
		o.put(n.http, b.http(r.Http))
	}
	return o.value()
}

func (b *builder) timestamp(t *timestamppb.Timestamp) ast.Value {
	o := b.object(2)
	o.number(b.names.seconds, t.Seconds)
	o.number(b.names.nanos, int64(t.Nanos))
	return o.value()
}

func (b *builder) http(r *authv3.AttributeContext_HttpRequest) ast.Value {
	n, o := b.names, b.object(8)
	o.text(n.id, r.Id)
	o.text(n.method, r.Method)
	o.texts(n.headers, r.Headers)
	if r.HeaderMap != nil {
		o.put(n.headerMap, b.message(r.HeaderMap.ProtoReflect(), 4))
	}
	o.text(n.path, r.Path)
	o.text(n.host, r.Host)
	o.text(n.scheme, r.Scheme)
	o.text(n.query, r.Query)
	o.text(n.fragment, r.Fragment)
	o.number(n.size, r.Size)
	o.text(n.protocol, r.Protocol)
	o.text(n.body, r.Body)
	if len(r.RawBody) > 0 {
		o.put(n.rawBody, ast.String(base64.StdEncoding.EncodeToString(r.RawBody)))
	}
	return o.value()
}
