package issuer_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// encode is one part of a token, out of JSON text or of anything else.
func encode(v any) string {
	raw, ok := v.(string)
	if !ok {
		encoded, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		raw = string(encoded)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(raw))
}

// signed puts a header and claims of any text into a token with a good
// signature.
func signed(t testing.TB, k *issuertest.Key, header, claims string) string {
	t.Helper()
	text := encode(header) + "." + encode(claims)
	signature, err := jwt.GetSigningMethod(k.Algorithm).Sign(text, k.Private)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// hmac signs with a secret, as who takes a public key for one would.
func hmac(t testing.TB, claims map[string]any, secret []byte) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims))
	token.Header["kid"] = "rsa"
	text, err := token.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func many(n int) map[string]any {
	out := map[string]any{}
	for i := range n {
		out[fmt.Sprintf("c%d", i)] = i
	}
	return out
}

func nested(depth int) any {
	var v any = 1
	for range depth {
		v = []any{v}
	}
	return v
}

// TestAttacks verifies tokens that are not to be believed, and some that are.
func TestAttacks(t *testing.T) {
	t.Parallel()
	ec, rsaKey, other := issuertest.NewKey(t, "ec", "ES256"), issuertest.NewKey(t, "rsa", "RS256"), issuertest.NewKey(t, "ec", "ES256")
	v := newVerifier(t, issuer.Options{Now: start, Wait: time.Millisecond}, configOf(issuertest.File(t, issuertest.Set(t, ec, rsaKey)), "ES256", "RS256"))

	public := rsaKey.Private.Public().(*rsa.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	claims := func(members ...map[string]any) map[string]any {
		return issuertest.Claims(self, audience, start(), members...)
	}
	good := ec.Sign(claims())
	part := strings.Split(good, ".")
	text, err := json.Marshal(claims())
	if err != nil {
		t.Fatal(err)
	}
	const header = `{"alg":"ES256","kid":"ec","typ":"JWT"}`
	with := func(name string, value any) string { return ec.Sign(claims(), map[string]any{name: value}) }
	claim := func(name string, value any) string { return ec.Sign(claims(map[string]any{name: value})) }
	for _, tt := range []struct{ name, token, want string }{
		{"good", good, "ok"},
		{"by the other key", rsaKey.Sign(claims()), "ok"},
		{"an access token", with("typ", "at+jwt"), "ok"},
		{"its type in full", with("typ", "application/AT+JWT"), "ok"},
		{"no type", with("typ", nil), "ok"},
		{"a thumbprint in the header", with("x5t", "abc"), "ok"},
		{"no kid, one key fits", with("kid", nil), "ok"},

		{"none, without a signature", encode(`{"alg":"none"}`) + "." + encode(claims()) + ".", "algorithm"},
		{"none, with one", encode(`{"alg":"none"}`) + "." + encode(claims()) + ".c2ln", "algorithm"},
		{"None", encode(`{"alg":"None","kid":"ec"}`) + "." + encode(claims()) + "." + part[2], "algorithm"},
		{"no algorithm", signed(t, ec, `{"kid":"ec"}`, string(text)), "algorithm"},
		{"an algorithm that is no string", signed(t, ec, `{"alg":["ES256"],"kid":"ec"}`, string(text)), "header"},
		{"HS256 with the RSA key in PEM", hmac(t, claims(), inPEM), "algorithm"},
		{"HS256 with the RSA key in DER", hmac(t, claims(), spki), "algorithm"},
		{"HS256 with the RSA modulus", hmac(t, claims(), public.N.Bytes()), "algorithm"},
		{"an algorithm that the issuer has not", (&issuertest.Key{ID: "rsa", Algorithm: "PS256", Private: rsaKey.Private}).Sign(claims()), "algorithm"},
		{"the algorithm of another key", signed(t, rsaKey, `{"alg":"RS256","kid":"ec"}`, string(text)), "algorithm"},
		{"an algorithm of another case", signed(t, ec, `{"alg":"es256","kid":"ec"}`, string(text)), "algorithm"},

		{"another key of the same kid", other.Sign(claims()), "signature"},
		{"another token's signature", part[0] + "." + encode(claims(map[string]any{"sub": "root"})) + "." + part[2], "signature"},
		{"no signature", part[0] + "." + part[1] + ".", "signature"},
		{"half a signature", part[0] + "." + part[1] + "." + part[2][:41], "malformed"},
		{"zeros for a signature", part[0] + "." + part[1] + "." + strings.Repeat("A", 86), "signature"},
		{"two parts", part[0] + "." + part[1], "malformed"},
		{"four parts", good + ".x", "malformed"},
		{"five parts, as a JWE has", part[0] + "." + part[1] + ".a.b." + part[2], "malformed"},
		{"a line break in it", good[:20] + "\n" + good[20:], "malformed"},
		{"padding", part[0] + "." + part[1] + "=." + part[2], "malformed"},
		{"two in one", good + "," + good, "malformed"},

		{"an unknown kid", ec.Sign(claims(), map[string]any{"kid": "nobody"}), "key_unknown"},
		{"an empty kid", with("kid", ""), "key_unknown"},
		{"a path for a kid", with("kid", "../../../../dev/null"), "key_unknown"},
		{"SQL for a kid", with("kid", "' UNION SELECT 'secret' --"), "key_unknown"},
		{"a URL for a kid", with("kid", "https://attacker.example/keys"), "key_unknown"},
		{"control characters in a kid", with("kid", "ec\x00\r\n"), "key_unknown"},
		{"a kid of another type", with("kid", map[string]any{"$ne": nil}), "header"},
		{"a number for a kid", with("kid", 1), "header"},
		{"a long kid", with("kid", strings.Repeat("k", 300)), "header"},

		{"jku", with("jku", "https://attacker.example/keys"), "header"},
		{"x5u", with("x5u", "https://attacker.example/cert"), "header"},
		{"jwk", other.Sign(claims(), map[string]any{"jwk": other.JWK()}), "header"},
		{"x5c", with("x5c", []string{"MII="}), "header"},
		{"crit", with("crit", []string{"exp"}), "header"},
		{"crit of nothing", with("crit", []string{}), "header"},
		{"b64", with("b64", false), "header"},
		{"zip", with("zip", "DEF"), "header"},
		{"a JWE's header in three parts", with("enc", "A256GCM"), "header"},
		{"an ID token's logout", with("typ", "logout+jwt"), "type"},
		{"a security event", with("typ", "secevent+jwt"), "type"},
		{"a nested token", signed(t, ec, header, `{"iss":"`+self+`","jwt":"`+good+`"}`), "claims"},
		{"a type of another type", with("typ", 5), "header"},
		{"a large header", with("pad", strings.Repeat("x", 4<<10)), "too_large"},

		{"expired", claim("exp", start().Add(-time.Hour).Unix()), "expired"},
		{"not yet valid", claim("nbf", start().Add(time.Hour).Unix()), "not_yet_valid"},
		{"issued in the future", claim("iat", start().Add(time.Hour).Unix()), "not_yet_valid"},
		{"no exp", claim("exp", nil), "claims"},
		{"exp in text", claim("exp", "4102444800"), "claims"},
		{"exp in milliseconds", claim("exp", start().UnixMilli()), "claims"},
		{"exp beyond all numbers", signed(t, ec, header, `{"iss":"`+self+`","aud":"verdict","exp":1e400}`), "malformed"},
		{"exp of -1e300", signed(t, ec, header, `{"iss":"`+self+`","aud":"verdict","exp":-1e300}`), "claims"},
		{"exp null", signed(t, ec, header, `{"iss":"`+self+`","aud":"verdict","exp":null}`), "claims"},
		{"nbf in text", claim("nbf", "now"), "claims"},

		{"another audience", claim("aud", "somebody"), "audience"},
		{"an audience that begins alike", claim("aud", "verdict2"), "audience"},
		{"no audience", claim("aud", nil), "claims"},
		{"an empty audience", claim("aud", ""), "claims"},
		{"an audience among others", claim("aud", []string{"somebody", "verdict"}), "ok"},
		{"audiences of others", claim("aud", []string{"somebody", "else"}), "audience"},
		{"an audience that is no text", claim("aud", []any{"verdict", 1}), "claims"},
		{"an audience in an object", claim("aud", map[string]any{"verdict": true}), "claims"},

		{"a subject that is no text", claim("sub", 5), "claims"},
		{"an empty subject", claim("sub", ""), "claims"},
		{"a line break in the subject", claim("sub", "a\r\nX-Admin: yes"), "claims"},
		{"a long subject", claim("sub", strings.Repeat("s", 256)), "claims"},
		{"no subject", claim("sub", nil), "ok"},

		{"many claims", ec.Sign(claims(many(600))), "malformed"},
		{"deep claims", claim("deep", nested(20)), "malformed"},
		{"giant claims", claim("pad", strings.Repeat("x", 20<<10)), "too_large"},
		{"claims beyond all bounds", claim("pad", strings.Repeat("x", 100<<10)), "too_large"},
		{"a claim twice", signed(t, ec, header, `{"sub":"root",`+string(text[1:])), "malformed"},
		{"the issuer twice", signed(t, ec, header, `{"iss":"https://else.example",`+string(text[1:])), "malformed"},
		{"a header twice", signed(t, ec, `{"alg":"none","alg":"ES256","kid":"ec"}`, string(text)), "malformed"},
		{"more behind the header", signed(t, ec, header+`{}`, string(text)), "malformed"},
		{"more behind the claims", signed(t, ec, header, string(text)+`x`), "malformed"},
		{"claims that break off", signed(t, ec, header, string(text[:len(text)-1])), "malformed"},
		{"a header that is a list", signed(t, ec, `[]`, string(text)), "malformed"},
		{"a header that is null", signed(t, ec, `null`, string(text)), "malformed"},

		{"another issuer", claim("iss", "https://else.example"), "foreign"},
		{"an issuer that begins alike", claim("iss", self+"/"), "foreign"},
		{"no issuer", claim("iss", nil), "foreign"},
		{"an issuer that is no text", claim("iss", []string{self}), "foreign"},
		{"an issuer in another case", signed(t, ec, header, strings.Replace(string(text), `"iss"`, `"ISS"`, 1)), "foreign"},
		{"claims that are a list", signed(t, ec, header, `["`+self+`"]`), "foreign"},
		{"claims that are null", signed(t, ec, header, `null`), "foreign"},
		{"opaque", "0123456789abcdef", "foreign"},
		{"opaque with dots", "v2.local.abc", "foreign"},
		{"empty", "", "foreign"},
		{"dots", "...", "foreign"},
	} {
		if got := reason(t, v, tt.token); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestTwoIssuers has two issuers with keys of the same kid: each verifies its
// own tokens only.
func TestTwoIssuers(t *testing.T) {
	t.Parallel()
	const second = "https://second.example"
	a, b := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "1", "ES256")
	two := configOf(issuertest.File(t, issuertest.Set(t, b)), "ES256")
	two.Issuer, two.Audience, two.Accept = second, "billing", []string{"at+jwt"}
	v := newVerifier(t, issuer.Options{Now: start}, configOf(issuertest.File(t, issuertest.Set(t, a)), "ES256"), two)
	access := map[string]any{"typ": "at+jwt"}
	for _, tt := range []struct{ name, token, want string }{
		{"the first's", a.Sign(issuertest.Claims(self, audience, start())), "ok"},
		{"the second's", b.Sign(issuertest.Claims(second, "billing", start()), access), "ok"},
		{"the second's with the first's key", a.Sign(issuertest.Claims(second, "billing", start()), access), "signature"},
		{"the first's with the second's key", b.Sign(issuertest.Claims(self, audience, start())), "signature"},
		{"the first's for the second's audience", a.Sign(issuertest.Claims(self, "billing", start())), "audience"},
		{"the second's of a type that the first takes", b.Sign(issuertest.Claims(second, "billing", start())), "type"},
	} {
		if got := reason(t, v, tt.token); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestSkew looks at the edges of a token's time, with clocks that may be off by
// a minute.
func TestSkew(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "ES256")
	c := &clock{now: start()}
	v := newVerifier(t, issuer.Options{Now: c.Now}, configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256"))
	short := newVerifier(t, issuer.Options{Now: c.Now, Skew: time.Second}, configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256"))
	at := start().Unix()
	exp, nbf, iat := k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"exp": at, "iat": nil})),
		k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"nbf": at, "iat": nil})),
		k.Sign(issuertest.Claims(self, audience, start()))
	for _, tt := range []struct {
		v     *issuer.Verifier
		token string
		off   time.Duration
		want  string
	}{
		{v, exp, 59 * time.Second, "ok"},
		{v, exp, 59*time.Second + 999*time.Millisecond, "ok"}, // kept by now
		{v, exp, time.Minute, "expired"},
		{short, exp, 999 * time.Millisecond, "ok"},
		{short, exp, time.Second, "expired"},
		{v, nbf, -time.Minute - time.Millisecond, "not_yet_valid"},
		{v, nbf, -time.Minute, "ok"},
		{v, iat, -time.Minute - time.Millisecond, "not_yet_valid"},
		{v, iat, -time.Minute, "ok"},
		{short, iat, -2 * time.Second, "not_yet_valid"},
	} {
		c.now = start().Add(tt.off)
		if got := reason(t, tt.v, tt.token); got != tt.want {
			t.Errorf("%s off: got %s, want %s", tt.off, got, tt.want)
		}
	}
}
