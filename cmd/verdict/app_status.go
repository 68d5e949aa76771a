package main

import (
	"runtime"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles/pull"
	"github.com/verdict-pdp/verdict/internal/secret"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// serverStatus is the answer of GET /api/v1/status.
type serverStatus struct {
	Version       string    `json:"version"`
	Commit        string    `json:"commit"`
	OPA           string    `json:"opa"`
	Started       time.Time `json:"started"`
	UptimeSeconds int64     `json:"uptime_seconds"`
	Dev           bool      `json:"dev"`
	Healthy       bool      `json:"healthy"`
	Problem       string    `json:"problem,omitempty"`

	Facilities   map[string]string  `json:"facilities"` // on, off or degraded
	Policies     policyStatus       `json:"policies"`
	Sources      []pull.Status      `json:"bundle_sources"`
	Keys         keyStatus          `json:"keys"`
	Certificates *cert.KeeperStatus `json:"certificates,omitempty"`
	Secrets      []secret.Status    `json:"secrets"`
	Audit        audit.Status       `json:"audit"`
	Runtime      runtimeStatus      `json:"runtime"`
}

// policyStatus is what decides now.
type policyStatus struct {
	Generation uint64         `json:"generation"` // grows with every change of policy or data
	Bundles    []bundleStatus `json:"bundles"`
	Modules    int            `json:"modules"`
	// APIWrites is how many writes of policy and data through the API are in
	// force. They live in memory and end with the process.
	APIWrites  uint64   `json:"api_writes"`
	APIModules []string `json:"api_modules"`
}

type bundleStatus struct {
	Name     string   `json:"name"`
	Revision string   `json:"revision"`
	Roots    []string `json:"roots"`
	Base     bool     `json:"base"`
	Modules  int      `json:"modules"`
}

// runtimeStatus is how the process is tuned.
type runtimeStatus struct {
	GCPercent        int    `json:"gc_percent"`
	MemoryLimitBytes int64  `json:"memory_limit_bytes"`
	GOMAXPROCS       int    `json:"gomaxprocs"`
	Goroutines       int    `json:"goroutines"`
	Go               string `json:"go"`
}

func (a *app) status() any {
	s := serverStatus{
		Version: a.version.Version, Commit: a.version.Commit, OPA: a.version.OPA,
		Started: a.started.UTC(), UptimeSeconds: int64(a.now().Sub(a.started).Seconds()),
		Dev: a.dev, Healthy: true, Policies: a.policyStatus(), Sources: a.sources.Status(), Keys: a.keyStatus(), Certificates: a.certs.status(), Secrets: a.secrets.Status(), Audit: a.log.Status(),
		Runtime: runtimeStatus{
			GCPercent: a.runtime.percent(), MemoryLimitBytes: a.runtime.memoryLimit,
			GOMAXPROCS: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(), Go: runtime.Version(),
		},
	}
	s.Facilities = map[string]string{"audit": "on", "standard_policies": "off", "grpc": a.checks.status(), "issuers": a.issuersStatus(), "keys": "on", "secrets": "on", "tls": "off"}
	s.Facilities["escrow"] = s.Keys.Escrow
	if s.Keys.State != "ok" {
		s.Facilities["keys"] = "degraded"
	}
	if s.Certificates != nil {
		s.Facilities["tls"] = "on"
		if s.Certificates.State != "ok" {
			s.Facilities["tls"] = "degraded"
		}
	}
	for _, one := range s.Secrets {
		if one.Problem != "" {
			s.Facilities["secrets"] = "degraded"
		}
	}
	for _, b := range s.Policies.Bundles {
		if b.Base {
			s.Facilities["standard_policies"] = "on"
		}
	}
	if s.Audit.Durability == audit.Off {
		s.Facilities["audit"] = "off"
	}
	if err := a.healthy(); err != nil {
		s.Healthy, s.Problem = false, err.Error()
		s.Facilities["audit"] = "degraded"
	}
	return s
}

func (a *app) policyStatus() policyStatus {
	snapshot := a.engine.Active()
	s := policyStatus{
		Generation: snapshot.Generation(), APIWrites: snapshot.APIWrites(),
		Bundles: []bundleStatus{}, APIModules: []string{},
	}
	for _, b := range snapshot.Bundles() {
		s.Bundles = append(s.Bundles, bundleStatus{
			Name: b.Name, Revision: b.Revision, Roots: b.Roots, Base: b.Base, Modules: len(b.Modules),
		})
	}
	for _, id := range snapshot.ModuleIDs() {
		s.Modules++
		if m, err := snapshot.Module(id); err == nil && m.Owner == "" {
			s.APIModules = append(s.APIModules, id)
		}
	}
	return s
}

// opaBundle is a bundle in OPA's status.
type opaBundle struct {
	Name     string `json:"name"`
	Revision string `json:"active_revision"`
}

// opaStatus tells what GET /v1/status answers: nil, that there is no such
// plugin, or what OPA's tells of what there is here too.
func (a *app) opaStatus() func() any {
	if !a.config.OPA.Status {
		return nil
	}
	return func() any {
		bundles := map[string]opaBundle{}
		for name, revision := range a.engine.Active().Revisions() {
			bundles[name] = opaBundle{Name: name, Revision: revision}
		}
		logs := map[string]string{"state": "OK"}
		if err := a.healthy(); err != nil {
			logs = map[string]string{"state": "ERROR", "message": err.Error()}
		}
		return map[string]any{
			"labels":  map[string]string{"id": a.instance, "version": a.version.Version},
			"bundles": bundles,
			"plugins": map[string]any{"bundle": map[string]string{"state": "OK"}, "decision_logs": logs},
		}
	}
}
