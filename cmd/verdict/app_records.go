package main

import (
	"context"
	"errors"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/cert"
	"github.com/verdict-pdp/verdict/keys/service"
)

// weight is the log's word for an event, and how much it matters.
type weight struct {
	event    string
	severity audit.Severity
}

// requested is the record of what somebody asked for, or, where nobody is named,
// of what the server did by itself.
func requested(by keys.By, kind audit.Type, w weight, resource string) *audit.Record {
	r := &audit.Record{
		Type: kind, Event: w.event, Severity: w.severity, Outcome: audit.OutcomeSuccess, Resource: resource,
		DecisionID: by.DecisionID, ClientIP: by.ClientIP, UserAgent: by.UserAgent, RequestedBy: by.Caller, Edge: by.Edge,
		CorrelationID: by.CorrelationID, TraceID: by.TraceID,
	}
	if r.RequestedBy == "" {
		r.RequestedBy = "serve"
	}
	return r
}

// keyRecords writes what happens to keys into the audit log.
type keyRecords struct{ a *app }

// RecordKey implements keys.Recorder.
func (k keyRecords) RecordKey(ctx context.Context, e keys.Event) error {
	w, ok := keyWeight(e.Kind)
	if !ok {
		return errors.New("record an event of keys: unknown kind " + string(e.Kind))
	}
	r := requested(e.By, audit.TypeKey, w, "key:"+e.KeyID)
	r.Message = e.Failed
	if e.Failed != "" || e.Kind == keys.EventOpeningFailed {
		r.Outcome = audit.OutcomeFailure
	}
	details := map[string]any{}
	if e.Class != 0 {
		details["classification"] = e.Class.String()
	}
	for name, value := range map[string]string{"type": string(e.Type), "cause": string(e.Cause), "digest": e.Digest} {
		if value != "" {
			details[name] = value
		}
	}
	for name, version := range map[string]uint32{"version": e.Version, "from": e.From} {
		if version != 0 {
			details[name] = version
		}
	}
	if !e.At.IsZero() {
		details["at"] = e.At.UTC()
	}
	if len(e.Principals) > 0 {
		details["shares"], details["principals"] = e.Shares, e.Principals
	}
	if len(e.Missing) > 0 {
		details["missing"] = e.Missing
	}
	if len(e.Failures) > 0 {
		details["failures"], details["contexts"] = e.Failures, e.Contexts
	}
	return k.a.record(ctx, r, details)
}

func keyWeight(kind keys.EventKind) (w weight, ok bool) {
	w, ok = map[keys.EventKind]weight{
		keys.EventCreated:        {audit.EventKeyCreated, audit.SeverityMedium},
		keys.EventRotated:        {audit.EventKeyRotation, audit.SeverityMedium},
		keys.EventRotationFailed: {audit.EventKeyRotationFailed, audit.SeverityHigh},
		keys.EventScheduled:      {audit.EventKeyScheduled, audit.SeverityMedium},
		keys.EventCompromised:    {audit.EventKeyCompromised, audit.SeverityCritical},
		keys.EventRetired:        {audit.EventKeyRetired, audit.SeverityHigh},
		keys.EventChangeFailed:   {audit.EventKeyChangeFailed, audit.SeverityHigh},
		keys.EventOpeningFailed:  {audit.EventKeyOpeningFailed, audit.SeverityHigh},
		keys.EventMasterRotated:  {audit.EventMasterRotated, audit.SeverityHigh},

		keys.EventEscrowed:          {audit.EventKeyEscrowed, audit.SeverityMedium},
		keys.EventEscrowExported:    {audit.EventKeyEscrowExported, audit.SeverityHigh},
		keys.EventRecoveryShares:    {audit.EventKeyRecoveryShares, audit.SeverityCritical},
		keys.EventRecoveryRefused:   {audit.EventKeyRecoveryRefused, audit.SeverityCritical},
		keys.EventRecoveryCancelled: {audit.EventKeyRecoveryCancelled, audit.SeverityHigh},
		keys.EventRecovered:         {audit.EventKeyRecovered, audit.SeverityCritical},
	}[kind]
	return w, ok
}

// certRecords writes what happens to certificates into the audit log.
type certRecords struct{ a *app }

// RecordCertificate implements cert.Recorder.
func (s certRecords) RecordCertificate(ctx context.Context, e cert.Event) error {
	w, ok := certWeight(e.Kind)
	if !ok {
		return errors.New("record an event of certificates: unknown kind " + string(e.Kind))
	}
	r := requested(e.By, audit.TypeSecurity, w, "certificate")
	r.Message = e.Detail
	details := map[string]any{}
	if e.Certificate.Serial != "" {
		r.Resource = "certificate:" + e.Certificate.Serial
		details["certificate"] = e.Certificate
	}
	if e.Failed != "" {
		r.Outcome, r.Message = audit.OutcomeFailure, e.Failed
	}
	if e.Kind == cert.EventExpiring {
		r.Outcome = audit.OutcomeWarning
	}
	if e.Code != "" {
		details["code"] = e.Code
	}
	return s.a.record(ctx, r, details)
}

func certWeight(kind cert.EventKind) (w weight, ok bool) {
	w, ok = map[cert.EventKind]weight{
		cert.EventIssued:        {audit.EventCertificateIssued, audit.SeverityMedium},
		cert.EventIssueRefused:  {audit.EventCertificateRefused, audit.SeverityMedium},
		cert.EventRenewed:       {audit.EventCertificateRenewal, audit.SeverityInfo},
		cert.EventRenewalFailed: {audit.EventCertificateRenewal, audit.SeverityHigh},
		cert.EventExpiring:      {audit.EventCertificateExpiring, audit.SeverityHigh},
		cert.EventRevoked:       {audit.EventCertificateRevoked, audit.SeverityHigh},
		cert.EventTrustChanged:  {audit.EventCertificateTrust, audit.SeverityHigh},
	}[kind]
	return w, ok
}

// jobRecords writes the beginning and the end of jobs into the audit log.
type jobRecords struct{ a *app }

// RecordJob implements service.JobRecorder.
func (s jobRecords) RecordJob(ctx context.Context, j service.Job, by keys.By) error {
	r := requested(by, audit.TypeKey, weight{audit.EventReencryptionEnded, audit.SeverityMedium}, "key:"+j.KeyID)
	switch j.State {
	case service.JobOpen:
		r.Event = audit.EventReencryptionStarted
	case service.JobAbandoned:
		r.Severity, r.Outcome = audit.SeverityHigh, audit.OutcomeWarning
	}
	return s.a.record(ctx, r, j)
}
