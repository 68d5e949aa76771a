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
	failed func(remote net.Addr, err error) // is told of failed handshakes; may be nil
}

func newCredentials(config *tls.Config, failed func(net.Addr, error)) credentials.TransportCredentials {
	if config == nil {
		return connCredentials{TransportCredentials: insecure.NewCredentials()}
	}
	return connCredentials{TransportCredentials: credentials.NewTLS(config), failed: failed}
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
		if c.failed != nil {
			c.failed(conn.RemoteAddr(), err)
		}
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
	return connCredentials{TransportCredentials: c.TransportCredentials.Clone(), failed: c.failed}
}
