package extauthz

import (
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/verdict-pdp/verdict/api"
)

// connCredentials attaches to each connection, once its handshake is over, what
// the gate needs to know of it.
type connCredentials struct {
	credentials.TransportCredentials
}

func newCredentials(config *tls.Config) credentials.TransportCredentials {
	if config == nil {
		return connCredentials{insecure.NewCredentials()}
	}
	return connCredentials{credentials.NewTLS(config)}
}

// connInfo is the AuthInfo of a connection.
type connInfo struct {
	credentials.AuthInfo
	peer *api.PeerConn
}

// ServerHandshake implements credentials.TransportCredentials.
func (c connCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	out, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return out, info, err
	}
	var state *tls.ConnectionState
	if t, ok := info.(credentials.TLSInfo); ok {
		state = &t.State
	}
	return out, &connInfo{AuthInfo: info, peer: api.NewPeerConn(conn.RemoteAddr(), state)}, nil
}

// Clone implements credentials.TransportCredentials.
func (c connCredentials) Clone() credentials.TransportCredentials {
	return connCredentials{c.TransportCredentials.Clone()}
}
