package pull

import "net/http"

// SetTransport puts another transport in place of the network, for the sources
// there are.
func (p *Puller) SetTransport(rt http.RoundTripper) {
	for _, w := range p.workers {
		w.material.client.Transport = rt
	}
}
