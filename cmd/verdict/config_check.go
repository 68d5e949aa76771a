package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/internal/secret"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// checkReport is the answer of config check.
type checkReport struct {
	OK       bool      `json:"ok"`
	Problems []Problem `json:"problems"`
	Warnings []Warning `json:"warnings"`
}

// checkConfig tells whether serve would accept the configuration. The error
// says why that cannot be told.
func checkConfig(f *configFlags, environ []string) (checkReport, error) {
	c, warnings, err := loadConfig(f, environ)
	problems, invalid := errors.AsType[Problems](err)
	if err != nil && !invalid {
		return checkReport{}, err
	}
	if err == nil {
		problems = c.checkFiles()
	}
	return checkReport{OK: len(problems) == 0, Problems: problems, Warnings: warnings}, nil
}

// String gives the report one finding a line.
func (r checkReport) String() string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "error: %s\n", p)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if r.OK {
		b.WriteString("the configuration is valid\n")
	}
	return b.String()
}

// checkFiles looks into the files that the configuration names.
func (c *Config) checkFiles() Problems {
	r := &checker{config: c}
	if t := c.Server.TLS; t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			r.fail("server.tls.cert_file", "cannot be used with its key: %v", err)
		}
		if t.ClientCAFile != "" {
			pem, err := os.ReadFile(t.ClientCAFile)
			if err != nil {
				r.fail("server.tls.client_ca_file", "cannot be read: %v", err)
			} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
				r.fail("server.tls.client_ca_file", "%s holds no certificate; give a PEM file", t.ClientCAFile)
			}
		}
	}
	var near []secret.Request
	for _, request := range c.secretRequests() {
		if request.Reference.Source() != secret.Vault { // which a check does not ask
			near = append(near, request)
		}
	}
	_, err := secret.NewStore(secret.Options{}).Prepare(context.Background(), near)
	if problems, ok := errors.AsType[Problems](secretProblems(c, err)); ok {
		r.problems = append(r.problems, problems...)
	}
	if path := c.Keys.Escrow.PublicKey; path != "" {
		if _, err := readEscrowKey(path); err != nil {
			r.fail("keys.escrow.public_key", "%v", err)
		}
	}
	if t := c.Server.TLS; t.on() && len(r.problems) == 0 {
		a := &app{config: c, now: time.Now}
		if t.Source != certsFiles { // who signs is not asked here
			a.certs.own, _ = cert.NewIssued(nil, cert.OwnOptions{Names: []string{"localhost"}})
		}
		if _, err := cert.NewKeeper(a.keeperSettings(c), cert.KeeperOptions{}); err != nil {
			r.fail("server.tls", "the files cannot be used: %v", err)
		}
	}
	return r.problems
}
