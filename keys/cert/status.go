package cert

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxShown bounds the authorities in metrics.
const maxShown = 20

// KeeperStatus is how the certificates of the listeners do.
type KeeperStatus struct {
	// State is ok, waiting (there is no certificate yet) or degraded.
	State string `json:"state"`
	// Source is files, vault or dev.
	Source string `json:"source"`
	// Problems say why it is degraded.
	Problems []string `json:"problems,omitempty"`
	// Serving is the certificate that is served.
	Serving *Info `json:"serving,omitempty"`
	// Renews is when it is renewed; nil: whenever its files are.
	Renews *time.Time `json:"renews,omitempty"`
	// ClientAuthorities is how many there are, RevocationLists how many lists.
	ClientAuthorities int `json:"client_authorities"`
	RevocationLists   int `json:"revocation_lists"`
}

// Status tells how the certificates do.
func (k *Keeper) Status() KeeperStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, t := k.o.Now(), k.trust.Load()
	s := KeeperStatus{State: "ok", Source: k.source.Name(), ClientAuthorities: len(t.authorities), RevocationLists: len(t.lists)}
	for _, p := range []string{k.problem, k.distrust} {
		if p != "" {
			s.Problems = append(s.Problems, p)
		}
	}
	if l := t.stale(now); l != nil {
		s.Problems = append(s.Problems, "a revocation list is out of date since "+l.ends.UTC().Format(time.RFC3339)+"; certificates of its authority are refused")
	}
	current := k.serving.Load()
	if current != nil {
		info := Describe(current.Leaf, now)
		info.Use, info.Authority = UseServing, k.source.Name()
		s.Serving = &info
		if info.Status == Expired {
			s.Problems = append(s.Problems, "the certificate that is served has ended")
		}
		if due := k.source.Due(current); !due.IsZero() {
			due = due.UTC()
			s.Renews = &due
		}
	}
	switch {
	case current == nil:
		s.State = "waiting"
	case len(s.Problems) > 0:
		s.State = "degraded"
	}
	return s
}

// InUse describes the certificates that verdict itself uses: the one that is
// served, and the authorities of clients.
func (k *Keeper) InUse() []Info {
	k.mu.Lock()
	source := k.source.Name()
	k.mu.Unlock()
	var all []Info
	now := k.o.Now()
	if current := k.serving.Load(); current != nil {
		info := Describe(current.Leaf, now)
		info.Use, info.Authority = UseServing, source
		all = append(all, info)
	}
	for _, a := range k.trust.Load().authorities {
		info := Describe(a, now)
		info.Use, info.Authority, info.Type = UseClientAuthority, "files", CA
		all = append(all, info)
	}
	return all
}

// keeperMetrics are the metrics of a Keeper.
type keeperMetrics struct {
	keeper   *Keeper
	renewals *prometheus.CounterVec
	ends     *prometheus.Desc
	lists    *prometheus.Desc
	problems *prometheus.Desc
}

func newKeeperMetrics(k *Keeper) *keeperMetrics {
	return &keeperMetrics{
		keeper: k,
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_certificate_renewals_total", Help: "Exchanges of the certificate that is served, by outcome.",
		}, []string{"outcome"}),
		ends: prometheus.NewDesc("verdict_certificate_not_after_seconds",
			"When a certificate that verdict uses ends, seconds since 1970.", []string{"use", "serial"}, nil),
		lists: prometheus.NewDesc("verdict_certificate_revocation_list_next_update_seconds",
			"When a revocation list of client certificates is out of date, seconds since 1970.", []string{"list"}, nil),
		problems: prometheus.NewDesc("verdict_certificate_problems",
			"How many things are wrong with the certificates of the listeners.", nil, nil),
	}
}

// Collectors are the metrics of the keeper.
func (k *Keeper) Collectors() []prometheus.Collector {
	return []prometheus.Collector{k.metrics, k.metrics.renewals}
}

// Describe implements prometheus.Collector.
func (m *keeperMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ends, m.lists, m.problems} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *keeperMetrics) Collect(out chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, info := range m.keeper.InUse() {
		if key := info.Use + info.Serial; !seen[key] && len(seen) < maxShown {
			seen[key] = true
			out <- prometheus.MustNewConstMetric(m.ends, prometheus.GaugeValue, float64(info.NotAfter.Unix()), info.Use, info.Serial)
		}
	}
	n := 0
	for _, l := range m.keeper.trust.Load().sorted() {
		if n++; n > maxShown {
			break
		}
		out <- prometheus.MustNewConstMetric(m.lists, prometheus.GaugeValue, float64(l.ends.Unix()), strconv.Itoa(n))
	}
	s := m.keeper.Status()
	problems := len(s.Problems)
	if s.State == "waiting" && problems == 0 {
		problems = 1
	}
	out <- prometheus.MustNewConstMetric(m.problems, prometheus.GaugeValue, float64(problems))
}
