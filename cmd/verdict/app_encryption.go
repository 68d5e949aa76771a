package main

import (
	"time"

	"github.com/verdict-pdp/verdict/keys/service"
)

// encryptionTime bounds what a call may wait for Vault: callers are told within
// 3 seconds that keys cannot be used.
const encryptionTime = 2500 * time.Millisecond

// openEncryption makes the encryption service over the key ring. Keys in the
// data folder take what time they need.
func (a *app) openEncryption() {
	o := service.Options{Now: a.now}
	if a.keys.vault != nil {
		o.Timeout = encryptionTime
	}
	a.crypto = service.New(a.keys.Ring, a.pdp, o)
}
