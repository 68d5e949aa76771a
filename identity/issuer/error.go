package issuer

import (
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// ErrForeign is returned for a bearer that names no configured issuer: it may be
// somebody else's, and nothing is known of it.
var ErrForeign = errors.New("the bearer names no configured issuer")

// Reason is why a token is refused, in one word.
type Reason string

// The reasons.
const (
	TooLarge    Reason = "too_large"        // more bytes than a token may have
	Malformed   Reason = "malformed"        // not a signed JWT in compact form, or JSON that is not strict
	Header      Reason = "header"           // crit, b64, or a key in the token itself
	Type        Reason = "type"             // typ is not accepted
	Algorithm   Reason = "algorithm"        // not one of the issuer's, or not one of the key's
	KeyUnknown  Reason = "key_unknown"      // kid names no key
	KeyUnclear  Reason = "key_ambiguous"    // several keys could be meant
	KeysMissing Reason = "keys_unavailable" // the issuer's keys are not known, or too old
	Signature   Reason = "signature"        // it does not verify
	Expired     Reason = "expired"
	NotYet      Reason = "not_yet_valid" // nbf or iat lies ahead
	Audience    Reason = "audience"
	Claims      Reason = "claims" // one is missing, or of the wrong type or size
)

// RefusedError is returned for a token that names a configured issuer and is
// not to be believed.
type RefusedError struct {
	Issuer string // as configured; empty when nobody looked
	Reason Reason
}

func (e *RefusedError) Error() string { return "the token is not valid: " + string(e.Reason) }

// reasonOf is the reason behind an error of golang-jwt.
func reasonOf(err error) Reason {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	for _, known := range []struct {
		err    error
		reason Reason
	}{
		{jwt.ErrTokenMalformed, Malformed},
		{jwt.ErrTokenSignatureInvalid, Signature},
		{jwt.ErrTokenExpired, Expired},
		{jwt.ErrTokenNotValidYet, NotYet},
		{jwt.ErrTokenUsedBeforeIssued, NotYet},
		{jwt.ErrTokenInvalidAudience, Audience},
		{jwt.ErrTokenRequiredClaimMissing, Claims},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return Claims
}
