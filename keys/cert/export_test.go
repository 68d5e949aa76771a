package cert

import (
	"context"
	"crypto/x509"
	"time"
)

// Step has a keeper look at everything once, as Run does.
func Step(k *Keeper) { k.step(context.Background()) }

// ParseCRLs reads revocation lists and gives how many serial numbers they hold.
func ParseCRLs(text []byte, authorities []*x509.Certificate, now time.Time) (serials int, err error) {
	lists, err := parseCRLs(text, authorities, now)
	for _, l := range lists {
		serials += len(l.serials)
	}
	return serials, err
}
