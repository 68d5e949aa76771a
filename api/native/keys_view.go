package native

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
)

// keyView is a key as the API shows it.
type keyView struct {
	ID             string    `json:"id"`
	Type           keys.Type `json:"type"`
	Classification string    `json:"classification,omitempty"`
	Version        uint32    `json:"version"`
	// The oldest versions that decrypt, and that encrypt and sign.
	MinDecryption uint32        `json:"min_decryption_version"`
	MinEncryption uint32        `json:"min_encryption_version"`
	Versions      []versionView `json:"versions"`
	// Since is when the latest version began.
	Since        time.Time  `json:"since,omitzero"`
	AgeSeconds   int64      `json:"age_seconds"`
	AgeDays      int64      `json:"age_days"` // whole days
	NextRotation *time.Time `json:"next_rotation"`
	Scheduled    *time.Time `json:"scheduled"`
	Overdue      bool       `json:"overdue"`
	Imported     bool       `json:"imported"`
	Escrow       escrowView `json:"escrow"`
	Compromised  []uint32   `json:"compromised"`
	Holds        []string   `json:"holds"`
}

type versionView struct {
	Version uint32    `json:"version"`
	Created time.Time `json:"created,omitzero"`
}

type escrowView struct {
	Required bool     `json:"required"`
	Versions []uint32 `json:"versions"`
}

type keyListView struct {
	Policies map[string]keys.Policy `json:"policies"`
	Keys     []keyView              `json:"keys"`
	Stats    keyStats               `json:"stats"`
}

// keyStats counts the keys of a list.
type keyStats struct {
	Total   int            `json:"total"`
	Active  int            `json:"active"`  // neither overdue nor compromised
	Expired int            `json:"expired"` // overdue
	ByType  map[string]int `json:"by_type"`
}

func (s *keyStats) add(v *keyView) {
	s.Total++
	s.ByType[string(v.Type)]++
	switch {
	case v.Overdue:
		s.Expired++
	case !slices.Contains(v.Compromised, v.Version):
		s.Active++
	}
}

// keyView gives what the API shows of a key.
func (s *Server) keyView(ctx context.Context, i *keys.Info) (keyView, error) {
	const day = 24 * time.Hour
	v := keyView{
		ID: i.Name, Type: i.Type, Version: i.Latest, MinDecryption: i.MinDecrypt, MinEncryption: i.MinEncrypt,
		Since: i.Since.UTC(), AgeSeconds: int64(i.Age.Seconds()), AgeDays: int64(i.Age / day),
		NextRotation: timeOrNil(i.NextRotation), Scheduled: timeOrNil(i.Scheduled),
		Overdue:  !i.NextRotation.IsZero() && i.NextRotation.Before(s.o.Now()),
		Imported: i.Imported, Compromised: append([]uint32{}, i.Compromised...), Holds: append([]string{}, i.Holds...),
		Versions: make([]versionView, 0, len(i.Versions)), Escrow: escrowView{Versions: []uint32{}},
	}
	for _, version := range i.Versions {
		v.Versions = append(v.Versions, versionView{Version: version.Number, Created: version.Created})
	}
	if i.Class != 0 {
		v.Classification = i.Class.String()
		v.Escrow.Required = s.o.Keys.Ring.Policy(i.Class).RequireKeyEscrow
	}
	if s.o.Keys.Escrow != nil && v.Escrow.Required {
		versions, err := s.o.Keys.Escrow.Versions(ctx, i.Name)
		if err != nil {
			return v, err
		}
		v.Escrow.Versions = append(v.Escrow.Versions, versions...)
	}
	return v, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// keyETag names the state of a key: its versions, marks and dates.
func keyETag(i *keys.Info) string {
	state := fmt.Sprint(i.Name, i.Latest, i.MinDecrypt, i.MinEncrypt, i.Scheduled.UnixNano(), i.Compromised, i.Holds)
	sum := sha256.Sum256([]byte(state))
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

// publicView is a public key of a key's version.
type publicView struct {
	Version uint32 `json:"version"`
	KeyID   string `json:"kid"`
	PEM     string `json:"pem"`
}

// keyPublic answers GET /api/v1/keys/{id}/public: the versions that may still
// be checked or decrypt and are not compromised.
func (s *Server) keyPublic(w http.ResponseWriter, r *http.Request) {
	info, err := s.o.Keys.Ring.Key(r.Context(), param(r, "id"))
	if err != nil {
		s.keyError(w, r, err, "read key")
		return
	}
	views, set := []publicView{}, jose.Set{Keys: []jose.JWK{}}
	for _, v := range info.Versions {
		if v.Public == nil || v.Number < info.MinDecrypt || slices.Contains(info.Compromised, v.Number) {
			continue
		}
		kid := jose.KeyID(info.Name, v.Number)
		text, key, err := encodePublic(&info, kid, v.Public)
		if err != nil {
			s.internal(w, err, "encode public key")
			return
		}
		views, set.Keys = append(views, publicView{Version: v.Number, KeyID: kid, PEM: text}), append(set.Keys, key)
	}
	if len(views) == 0 {
		fail(w, http.StatusUnprocessableEntity, "no_public_key", "a key of type "+string(info.Type)+" has no public half, or none that is still good", "id")
		return
	}
	w.Header().Set("ETag", keyETag(&info))
	s.reply(w, map[string]any{"id": info.Name, "type": info.Type, "versions": views, "jwks": set})
}

// encodePublic gives a public key as PEM and as JWK. An RSA key of a
// classification wraps data keys; others sign.
func encodePublic(i *keys.Info, kid string, public crypto.PublicKey) (string, jose.JWK, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", jose.JWK{}, fmt.Errorf("encode public key of %s: %w", i.Name, err)
	}
	alg := keys.RS256
	switch i.Type {
	case keys.Ed25519:
		alg = keys.EdDSA
	case keys.ECDSAP256:
		alg = keys.ES256
	}
	key, err := jose.NewJWK(public, alg, kid)
	if err != nil {
		return "", jose.JWK{}, err
	}
	if i.Class != 0 {
		key.Use, key.Algorithm = "enc", "RSA-OAEP-256"
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), key, nil
}

// replyWith answers with another status than 200.
func (s *Server) replyWith(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.internal(w, err, "encode answer")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody is left to be told
}
