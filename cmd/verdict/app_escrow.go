package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
	"github.com/verdict-pdp/verdict/keys/local"
)

// openEscrow makes the escrow where there is a key for it.
func (a *app) openEscrow(store escrow.Store) error {
	path := a.config.Keys.Escrow.PublicKey
	if path == "" {
		return nil
	}
	public, err := readEscrowKey(path)
	if err != nil {
		return fmt.Errorf("keys.escrow.public_key: %w", err)
	}
	a.keys.escrow, err = escrow.New(public, store, keyRecords{a}, escrow.Options{Now: a.now})
	return err
}

func readEscrowKey(path string) (*escrow.PublicKey, error) {
	text, err := readBounded(path, maxShareFile)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	public, err := escrow.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return public, nil
}

// escrowStatus tells whether the keys that should be escrowed are, and which
// are not.
func (a *app) escrowStatus() (state string, not []string) {
	needed := false
	for _, class := range keys.Classes() {
		needed = needed || class != keys.Public && a.keys.Policy(class).RequireKeyEscrow
	}
	not = a.keys.NotEscrowed()
	switch {
	case !needed:
		return "off", nil
	case a.keys.escrow == nil || len(not) > 0:
		return "degraded", not
	}
	return "on", nil
}

// keysAPI is what the API shows and changes of keys.
func (a *app) keysAPI() *native.Keys {
	return &native.Keys{
		Ring: a.keys.Ring, Escrow: a.keys.escrow, Recoveries: a.keys.recoveries, RotateMaster: a.rotateMaster,
	}
}

// rotateMaster gives the key ring in the data folder another master key, once
// that is recorded.
func (a *app) rotateMaster(ctx context.Context, by keys.By) error {
	if a.keys.local == nil || !a.keys.local.OwnsMaster() {
		return native.ErrNoMaster
	}
	event := keys.Event{Kind: keys.EventMasterRotated, KeyID: "master", By: by}
	if err := (keyRecords{a}).RecordKey(ctx, event); err != nil {
		return fmt.Errorf("record the rotation of the master key: %w", err)
	}
	err := a.keys.local.RotateMaster()
	if err == nil {
		return nil
	}
	event.Failed = err.Error()
	err = errors.Join(err, (keyRecords{a}).RecordKey(context.WithoutCancel(ctx), event))
	if errors.Is(err, local.ErrMaster) {
		return errors.Join(native.ErrNoMaster, err)
	}
	return err
}
