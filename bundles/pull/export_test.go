package pull

import "net/http"

// SetTransport puts another transport in place of the network, for the sources
// of the next Prepare.
func (p *Puller) SetTransport(rt http.RoundTripper) { p.transport = rt }
