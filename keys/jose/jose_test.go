package jose_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

// fixture is a signer over a ring, with a clock that the test moves.
type fixture struct {
	*testing.T
	ring   *keys.Ring
	id     string
	signer *jose.Signer
	now    time.Time
}

func newFixture(t *testing.T, b keys.Backend, typ keys.Type, alg keys.Algorithm) *fixture {
	t.Helper()
	f := &fixture{T: t, now: time.Now()}
	f.ring, _ = keystest.Ring(t, b, keys.Options{Now: func() time.Time { return f.now }})
	f.id = f.ring.ID("jwt")
	if _, err := f.ring.EnsureKey(t.Context(), keys.By{}, f.id, typ); err != nil {
		t.Fatal(err)
	}
	var err error
	f.signer, err = jose.NewSigner(f.ring, f.id, alg, jose.Options{Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) claims() jwt.RegisteredClaims {
	return jwt.RegisteredClaims{Issuer: "https://pdp.example", Subject: "alice", ExpiresAt: jwt.NewNumericDate(f.now.Add(10 * time.Minute))}
}

func (f *fixture) sign() string {
	f.Helper()
	token, err := f.signer.Sign(f.Context(), "at+jwt", f.claims())
	if err != nil {
		f.Fatal(err)
	}
	return token
}

func (f *fixture) verify(token string) error {
	var claims jwt.RegisteredClaims
	err := f.signer.Verify(f.Context(), token, "at+jwt", &claims)
	if err == nil && claims.Subject != "alice" {
		f.Errorf("claims %+v", claims)
	}
	return err
}

func (f *fixture) rotate() {
	f.Helper()
	if _, err := f.ring.Rotate(f.Context(), keys.By{}, f.id); err != nil {
		f.Fatal(err)
	}
}

// kids gives what is published, without the key's id.
func (f *fixture) kids() []string {
	f.Helper()
	set, err := f.signer.Set(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	var found []string
	for _, k := range set.Keys {
		found = append(found, strings.TrimPrefix(k.KeyID, f.id+":"))
	}
	return found
}

func (f *fixture) want(signs string, published ...string) {
	f.Helper()
	if got := strings.TrimPrefix(header(f, f.sign())["kid"].(string), f.id+":"); got != signs {
		f.Errorf("version %s signs, want %s", got, signs)
	}
	if got := f.kids(); !slices.Equal(got, published) {
		f.Errorf("published %v, want %v", got, published)
	}
}

func header(t testing.TB, token string) map[string]any {
	t.Helper()
	first, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	var h map[string]any
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// outside verifies a token as another program would: with the published set
// and a library of its own.
func (f *fixture) outside(token string, alg jwa.SignatureAlgorithm) error {
	f.Helper()
	set, err := f.signer.Set(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	encoded, err := json.Marshal(set)
	if err != nil {
		f.Fatal(err)
	}
	parsed, err := jwk.Parse(encoded)
	if err != nil {
		f.Fatalf("%s: %v", encoded, err)
	}
	kid, _ := header(f, token)["kid"].(string)
	key, ok := parsed.LookupKeyID(kid)
	if !ok {
		return errors.New("no such kid")
	}
	_, err = jws.Verify([]byte(token), jws.WithKey(alg, key))
	return err
}

func TestAlgorithms(t *testing.T) {
	keystest.Each(t, func(t *testing.T, b keys.Backend) {
		b = keystest.Prepare(t, b)
		for _, tt := range []struct {
			typ keys.Type
			alg keys.Algorithm
			jwa jwa.SignatureAlgorithm
		}{
			{keys.Ed25519, keys.EdDSA, jwa.EdDSA()},
			{keys.ECDSAP256, keys.ES256, jwa.ES256()},
			{keys.RSA4096, keys.RS256, jwa.RS256()},
			{keys.RSA4096, keys.PS256, jwa.PS256()},
		} {
			t.Run(string(tt.alg), func(t *testing.T) {
				f := newFixture(t, b, tt.typ, tt.alg)
				before := f.sign()
				f.rotate()
				f.now = f.now.Add(8 * time.Minute)
				after := f.sign()
				for n, token := range []string{before, after} {
					if err := f.verify(token); err != nil {
						t.Errorf("token %d: %v", n+1, err)
					}
					if err := f.outside(token, tt.jwa); err != nil {
						t.Errorf("token %d, by another library: %v", n+1, err)
					}
					h := header(t, token)
					if h["alg"] != string(tt.alg) || h["typ"] != "at+jwt" || h["kid"] != jose.KeyID(f.id, uint32(n+1)) || len(h) != 3 {
						t.Errorf("header %v", h)
					}
				}
				f.tamper(after)
			})
		}
	})
}

// tamper changes a token in every part; none of them holds.
func (f *fixture) tamper(token string) {
	f.Helper()
	parts := strings.Split(token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	changed := func(h map[string]any) string {
		own := header(f, token)
		for k, v := range h {
			own[k] = v
		}
		raw, err := json.Marshal(own)
		if err != nil {
			f.Fatal(err)
		}
		return encode(raw)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		f.Fatal(err)
	}
	signature[len(signature)/2] ^= 1
	payload := encode([]byte(`{"sub":"mallory","exp":99999999999}`))
	for name, bad := range map[string]string{
		"payload":        parts[0] + "." + payload + "." + parts[2],
		"signature":      parts[0] + "." + parts[1] + "." + encode(signature),
		"no signature":   parts[0] + "." + parts[1] + ".",
		"none":           changed(map[string]any{"alg": "none"}) + "." + parts[1] + ".",
		"HS256":          changed(map[string]any{"alg": "HS256"}) + "." + parts[1] + "." + parts[2],
		"other version":  changed(map[string]any{"kid": f.id + ":1"}) + "." + parts[1] + "." + parts[2],
		"future version": changed(map[string]any{"kid": f.id + ":9"}) + "." + parts[1] + "." + parts[2],
		"other key":      changed(map[string]any{"kid": "other:2"}) + "." + parts[1] + "." + parts[2],
		"kid is a path":  changed(map[string]any{"kid": "../../" + f.id + ":2"}) + "." + parts[1] + "." + parts[2],
		"kid zero":       changed(map[string]any{"kid": f.id + ":02"}) + "." + parts[1] + "." + parts[2],
		"kid a number":   changed(map[string]any{"kid": 2}) + "." + parts[1] + "." + parts[2],
		"jku":            changed(map[string]any{"jku": "https://evil.example"}) + "." + parts[1] + "." + parts[2],
		"crit":           changed(map[string]any{"crit": []string{"x"}}) + "." + parts[1] + "." + parts[2],
		"typ":            changed(map[string]any{"typ": "JWT"}) + "." + parts[1] + "." + parts[2],
		"padded":         token + "=",
		"giant":          token + strings.Repeat("A", jose.MaxToken),
		"empty":          "",
	} {
		if err := f.verify(bad); !errors.Is(err, jose.ErrToken) {
			f.Errorf("%s: %v", name, err)
		}
	}
	if err := f.signer.Verify(f.Context(), token, "JWT", &jwt.RegisteredClaims{}); !errors.Is(err, jose.ErrToken) {
		f.Errorf("another typ than asked for: %v", err)
	}
}

// A version is published before it signs, the old one until its last token has
// expired, and a compromised one not at all.
func TestPublication(t *testing.T) {
	f := newFixture(t, keystest.Local(t), keys.ECDSAP256, keys.ES256)
	f.want("1", "1") // the first one signs at once
	f.rotate()
	old := f.sign()
	f.want("1", "1", "2")
	f.now = f.now.Add(jose.DefaultMaxAge)
	f.want("1", "1", "2")
	f.now = f.now.Add(3 * time.Minute)
	f.want("2", "1", "2")
	if err := f.verify(old); err != nil {
		t.Errorf("a token of before: %v", err)
	}
	f.now = f.now.Add(jose.DefaultTokenLife)
	f.want("2", "1", "2")
	f.now = f.now.Add(2 * time.Minute)
	f.want("2", "2")

	f.rotate()
	stolen := f.sign() // by 2
	if _, err := f.ring.Compromise(t.Context(), keys.By{}, f.id, 2); err != nil {
		t.Fatal(err)
	}
	f.want("3", "3") // at once, since nothing else may
	if err := f.verify(stolen); !errors.Is(err, jose.ErrToken) {
		t.Errorf("a token of the compromised version: %v", err)
	}
	if _, err := f.ring.Compromise(t.Context(), keys.By{}, f.id, 0); err != nil {
		t.Fatal(err)
	}
	f.want("4", "4")
	if _, err := f.ring.Retire(t.Context(), keys.By{}, f.id, 0); err != nil {
		t.Fatal(err)
	}
	f.want("4", "4")
}

func TestExpiry(t *testing.T) {
	f := newFixture(t, keystest.Local(t), keys.Ed25519, keys.EdDSA)
	token := f.sign()
	f.now = f.now.Add(10*time.Minute + jose.DefaultSkew - 2*time.Second)
	if err := f.verify(token); err != nil {
		t.Errorf("within the skew: %v", err)
	}
	f.now = f.now.Add(5 * time.Second)
	if err := f.verify(token); !errors.Is(err, jose.ErrToken) || !errors.Is(err, jwt.ErrTokenExpired) {
		t.Errorf("expired: %v", err)
	}
	for name, claims := range map[string]jwt.Claims{
		"no exp":   jwt.RegisteredClaims{Subject: "alice"},
		"too long": jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(f.now.Add(2 * time.Hour))},
		"no time":  jwt.MapClaims{"exp": "tomorrow"},
	} {
		if _, err := f.signer.Sign(t.Context(), "JWT", claims); !errors.Is(err, jose.ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoKey(t *testing.T) {
	ring, _ := keystest.Ring(t, keystest.Local(t), keys.Options{})
	s, err := jose.NewSigner(ring, ring.ID("jwt"), keys.EdDSA, jose.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Set(t.Context()); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Errorf("set: %v", err)
	}
	claims := jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute))}
	if _, err := s.Sign(t.Context(), "JWT", claims); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Errorf("sign: %v", err)
	}
	for name, err := range map[string]error{
		"no ring":   second(jose.NewSigner(nil, "a", keys.EdDSA, jose.Options{})),
		"no id":     second(jose.NewSigner(ring, "", keys.EdDSA, jose.Options{})),
		"none":      second(jose.NewSigner(ring, "a", "none", jose.Options{})),
		"HS256":     second(jose.NewSigner(ring, "a", "HS256", jose.Options{})),
		"back then": second(jose.NewSigner(ring, "a", keys.EdDSA, jose.Options{Skew: -1})),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestMethod(t *testing.T) {
	f := newFixture(t, keystest.Local(t), keys.ECDSAP256, keys.ES256)
	m, err := jose.NewMethod(keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	good := jose.Key{Context: t.Context(), Ring: f.ring, ID: f.id, Version: 1}
	signature, err := m.Sign("a.b", good)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.ring.Key(t.Context(), f.id)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := info.Versions[0].Public.(*ecdsa.PublicKey)
	if !ok || len(signature) != 64 { // RFC 7518, section 3.4
		t.Fatalf("a signature of %d bytes", len(signature))
	}
	for _, tt := range []struct {
		name    string
		message string
		key     any
		want    error
	}{
		{"good", "a.b", public, nil},
		{"another message", "a.c", public, jwt.ErrSignatureInvalid},
		{"no key", "a.b", nil, jwt.ErrInvalidKeyType},
		{"a secret", "a.b", []byte("secret"), jwt.ErrInvalidKeyType},
	} {
		if err := m.Verify(tt.message, signature, tt.key); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for name, key := range map[string]any{
		"a private key": []byte("k"),
		"no version":    jose.Key{Context: t.Context(), Ring: f.ring, ID: f.id},
		"no ring":       jose.Key{Context: t.Context(), ID: f.id, Version: 1},
		"no context":    jose.Key{Ring: f.ring, ID: f.id, Version: 1},
		"no such":       jose.Key{Context: t.Context(), Ring: f.ring, ID: f.id, Version: 2},
	} {
		if _, err := m.Sign("a.b", key); err == nil {
			t.Errorf("%s signs", name)
		}
	}
	// golang-jwt's own methods stay as they are.
	if _, ours := jwt.GetSigningMethod("ES256").(*jose.Method); ours {
		t.Error("the method is registered for everybody")
	}
}

func FuzzParseKeyID(f *testing.F) {
	for _, seed := range []string{"verdict-jwt:1", "a:4294967295", ":1", "a:01", "a:+1", "a:b:2", "a:0", "a:4294967296", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, kid string) {
		id, version, ok := jose.ParseKeyID(kid)
		if !ok {
			if id != "" || version != 0 {
				t.Errorf("%q is refused and gives %q %d", kid, id, version)
			}
			return
		}
		if version == 0 || jose.KeyID(id, version) != kid {
			t.Errorf("%q gives %q %d", kid, id, version)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, tt := range []struct {
		name string
		make func(testing.TB) keys.Backend
	}{{"local", keystest.Local}, {"transit", dev}} {
		b.Run(tt.name, func(b *testing.B) {
			backend := keystest.Prepare(b, tt.make(b))
			for _, k := range []struct {
				typ keys.Type
				alg keys.Algorithm
			}{{keys.Ed25519, keys.EdDSA}, {keys.ECDSAP256, keys.ES256}, {keys.RSA4096, keys.RS256}} {
				b.Run(string(k.alg), func(b *testing.B) { benchmarkSign(b, backend, k.typ, k.alg) })
			}
		})
	}
}

// Whatever comes, Verify ends, and only what was signed holds.
func FuzzVerify(f *testing.F) {
	ring, _ := keystest.Ring(f, keystest.Local(f), keys.Options{})
	id := ring.ID("jwt")
	if _, err := ring.EnsureKey(f.Context(), keys.By{}, id, keys.Ed25519); err != nil {
		f.Fatal(err)
	}
	s, err := jose.NewSigner(ring, id, keys.EdDSA, jose.Options{})
	if err != nil {
		f.Fatal(err)
	}
	token, err := s.Sign(f.Context(), "JWT", jwt.RegisteredClaims{Subject: "alice", ExpiresAt: jwt.NewNumericDate(time.Now().Add(30 * time.Minute))})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{token, token[:len(token)-3], "", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat(".", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := s.Verify(t.Context(), text, "JWT", &jwt.RegisteredClaims{})
		if (err == nil) != (text == token) || err != nil && !errors.Is(err, jose.ErrToken) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
