package signature

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxHeader = 8 << 10 // bytes of a JWT's header, encoded
	// defaultPlugin is what opa build calls the one way of signing that is
	// built into it.
	defaultPlugin = "_default"
)

// envelope is .signatures.json taken apart. Nothing in it is verified.
type envelope struct {
	algorithm Algorithm // as the header announces it
	keyID     string    // of the header, else of the payload; may be empty
	signed    string    // HEADER.PAYLOAD
	payload   []byte
	signature []byte
}

// statement is the payload.
type statement struct {
	Files []signedFile `json:"files"`
	// KeyID is deprecated in OPA, and still what a signature without kid in
	// its header is known by.
	KeyID     string           `json:"keyid,omitempty"`
	Scope     string           `json:"scope,omitempty"`
	ExpiresAt *jwt.NumericDate `json:"exp,omitempty"`
	NotBefore *jwt.NumericDate `json:"nbf,omitempty"`
}

// signedFile is a file as it was signed.
type signedFile struct {
	Name      string `json:"name"`
	Hash      string `json:"hash"`
	Algorithm string `json:"algorithm"`
}

// openEnvelope takes .signatures.json apart.
func openEnvelope(raw []byte, limits Limits) (*envelope, error) {
	if int64(len(raw)) > limits.Signatures {
		return nil, refuse(Format, "%s is larger than %d bytes", Name, limits.Signatures).file(Name)
	}
	token, err := tokenOf(raw)
	if err != nil {
		return nil, err
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(sig, ".") {
		return nil, refuse(Format, "the signature is not a JWT of three parts").file(Name)
	}
	if len(header) > maxHeader {
		return nil, refuse(Format, "the JWT's header is larger than %d bytes", maxHeader).file(Name)
	}
	e := &envelope{signed: token[:len(header)+1+len(payload)]}
	if err := e.readHeader(header); err != nil {
		return nil, err
	}
	encoding := base64.RawURLEncoding.Strict()
	if e.payload, err = encoding.DecodeString(payload); err != nil {
		return nil, refuse(Format, "the JWT's payload is not base64url").file(Name)
	}
	if e.signature, err = encoding.DecodeString(sig); err != nil {
		return nil, refuse(Format, "the JWT's signature is not base64url").file(Name)
	}
	if e.keyID == "" {
		var named struct {
			KeyID string `json:"keyid"`
		}
		if err := json.Unmarshal(e.payload, &named); err != nil {
			return nil, refuse(Format, "the JWT's payload is not what bundles are signed with: %v", err).file(Name)
		}
		e.keyID = named.KeyID
	}
	if len(e.keyID) > maxKeyID {
		return nil, refuse(Format, "a key id of more than %d bytes", maxKeyID).file(Name)
	}
	return e, nil
}

// tokenOf gives the one JWT in .signatures.json.
func tokenOf(raw []byte) (string, error) {
	value, err := strictJSON(raw, 1000)
	if err != nil {
		return "", refuse(Format, "%s: %v", Name, err).file(Name)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return "", refuse(Format, "%s is not a JSON object", Name).file(Name)
	}
	if plugin := object["plugin"]; plugin != nil && plugin != "" && plugin != defaultPlugin {
		return "", refuse(Format, "%s is made by the plugin %.100q, which is not known here", Name, plugin).file(Name)
	}
	tokens, _ := object["signatures"].([]any)
	if len(tokens) != 1 {
		return "", refuse(Format, "%s holds %d signatures; exactly one is taken", Name, len(tokens)).file(Name)
	}
	token, ok := tokens[0].(string)
	if !ok {
		return "", refuse(Format, "the signature in %s is not a string", Name).file(Name)
	}
	return token, nil
}

// readHeader reads what the JWT announces. An extension that it marks as one
// that must be understood is refused (RFC 7515, section 4.1.11).
func (e *envelope) readHeader(encoded string) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return refuse(Format, "the JWT's header is not base64url").file(Name)
	}
	value, err := strictJSON(raw, 1000)
	if err != nil {
		return refuse(Format, "the JWT's header: %v", err).file(Name)
	}
	header, _ := value.(map[string]any)
	algorithm, ok := header["alg"].(string)
	if !ok {
		return refuse(Format, "the JWT's header has no alg").file(Name)
	}
	if _, ok := header["crit"]; ok {
		return refuse(Format, "the JWT's header asks for extensions (crit)").file(Name)
	}
	id, ok := header["kid"].(string)
	if !ok && header["kid"] != nil {
		return refuse(Format, "the JWT's kid is not a string").file(Name)
	}
	e.algorithm, e.keyID = Algorithm(algorithm), id
	return nil
}

// Description is what a signature says of itself. Nothing in it is verified.
type Description struct {
	KeyID     string    `json:"key_id"` // empty: it names none
	Algorithm Algorithm `json:"algorithm"`
	Scope     string    `json:"scope,omitempty"`
	Files     int       `json:"files"`
}

// Describe reads .signatures.json without verifying it: for people who look at
// a bundle, never for a decision.
func Describe(signatures []byte, limits Limits) (*Description, error) {
	limits = limits.withDefaults()
	e, err := openEnvelope(signatures, limits)
	if err != nil {
		return nil, err
	}
	s, err := e.statement(limits)
	if err != nil {
		return nil, err
	}
	return &Description{KeyID: e.keyID, Algorithm: e.algorithm, Scope: s.Scope, Files: len(s.Files)}, nil
}
