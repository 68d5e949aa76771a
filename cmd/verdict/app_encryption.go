package main

import (
	"context"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/keys/service"
)

const (
	jobsBucket = "reencryption"
	// encryptionTime bounds what a call may wait for Vault: callers are told within
	// 3 seconds that keys cannot be used.
	encryptionTime = 2500 * time.Millisecond
)

// openEncryption makes the encryption service over the key ring. Keys in the
// data folder take what time they need.
func (a *app) openEncryption() error {
	o := service.Options{Now: a.now}
	if a.config.Keys.Provider == "vault" { // a client may be there for secrets or certificates alone
		o.Timeout = encryptionTime
	}
	a.crypto = service.New(a.keys.Ring, a.pdp, o)
	bucket, err := a.state.Bucket(jobsBucket)
	if err != nil {
		return fmt.Errorf("open state of jobs: %w", err)
	}
	a.jobs = service.NewJobs(a.crypto, bucket, jobRecords{a})
	return nil
}

// reconcileJobs puts right what a crash left of jobs. What fails is tried again
// at the next start: a key is held too long then, or a job begins with it.
func (a *app) reconcileJobs(ctx context.Context) error {
	if err := a.jobs.Reconcile(ctx); err != nil && ctx.Err() == nil {
		a.logger.Error().Err(err).Msg("the holds of re-encryption jobs could not be put right")
	}
	return nil
}
