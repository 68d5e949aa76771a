package keys_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
)

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a ring over keys in a folder, with all that a test turns.
type rig struct {
	*testing.T
	clock *clock
	spy   *keystest.Spy
	store keys.Store
	rec   *keystest.Recorder
	ring  *keys.Ring
}

func newRig(t *testing.T, o keys.Options) *rig {
	t.Helper()
	c := newClock()
	dir := filepath.Join(t.TempDir(), "keys")
	b, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	g := &rig{T: t, clock: c, spy: &keystest.Spy{Backend: keystest.Prepare(t, b)}, store: keystest.Store(t), rec: &keystest.Recorder{}}
	g.ring = g.newRing(o)
	return g
}

// newRing gives another ring over the same keys and the same store, as another
// node or a restart would.
func (g *rig) newRing(o keys.Options) *keys.Ring {
	g.Helper()
	o.Now = g.clock.Now
	r, err := keys.New(g.spy, g.store, g.rec, o)
	if err != nil {
		g.Fatal(err)
	}
	return r
}

func (g *rig) encrypt(c keys.Class, tenant string) keys.Encrypted {
	g.Helper()
	results, err := g.ring.Encrypt(g.Context(), keys.By{}, []keys.Value{{Class: c, Context: keys.Context{Tenant: tenant}, Data: []byte("value")}})
	if err != nil {
		g.Fatal(err)
	}
	return results[0]
}

func (g *rig) must(e keys.Encrypted) keys.Ciphertext {
	g.Helper()
	if e.Err != nil {
		g.Fatal(e.Err)
	}
	return keys.Ciphertext{Text: e.Text}
}

func (g *rig) decrypt(e keys.Encrypted, tenant string) error {
	g.Helper()
	_, err := g.ring.DecryptOne(g.Context(), keys.By{}, keys.Ciphertext{Text: e.Text, Context: keys.Context{Tenant: tenant}})
	return err
}

func (g *rig) version(id string) uint32 {
	g.Helper()
	k, err := g.spy.Backend.Describe(g.Context(), id)
	if err != nil {
		g.Fatal(err)
	}
	return k.Latest
}

func TestDataKeysAreShared(t *testing.T) {
	tests := []struct {
		name    string
		class   keys.Class
		policy  *keys.Policy
		tenants []string
		want    int // calls for data keys
	}{
		{"one tenant", keys.Confidential, nil, []string{"a", "a", "a"}, 1},
		{"two tenants", keys.Internal, nil, []string{"a", "b", "a", "b", ""}, 3},
		{"a document each", keys.Restricted, nil, []string{"a", "a", "a"}, 3},
		{"a value each", keys.TopSecret, nil, []string{"a", "a"}, 2},
		{"caching forbidden", keys.Confidential, &keys.Policy{Algorithm: keys.AES256, RotationDays: 90, MaxCacheTimeMinutes: 30}, []string{"a", "a"}, 2},
		{"caching for 0 minutes", keys.Confidential, &keys.Policy{Algorithm: keys.AES256, RotationDays: 90, AllowKeyCaching: true}, []string{"a", "a"}, 2},
		{"never for top_secret", keys.TopSecret, &keys.Policy{Algorithm: keys.AES256, RotationDays: 7, AllowKeyCaching: true, MaxCacheTimeMinutes: 1440}, []string{"a", "a"}, 2},
		{"nor a document's", keys.Restricted, &keys.Policy{Algorithm: keys.AES256, RotationDays: 7, AllowKeyCaching: true, MaxCacheTimeMinutes: 10}, []string{"a", "a"}, 2},
		{"under RSA", keys.Internal, &keys.Policy{Algorithm: keys.RSA4096, RotationDays: 7, AllowKeyCaching: true, MaxCacheTimeMinutes: 10}, []string{"a", "a"}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := keys.Options{}
			if test.policy != nil {
				o.Policies = keys.Policies{test.class: *test.policy}
			}
			g := newRig(t, o)
			for _, tenant := range test.tenants {
				e := g.encrypt(test.class, tenant)
				g.must(e)
				if err := g.decrypt(e, tenant); err != nil {
					t.Fatal(err)
				}
			}
			if n := g.spy.Calls("DataKeys"); n != test.want {
				t.Errorf("%d calls for data keys, want %d", n, test.want)
			}
		})
	}
}

func TestDataKeysExpire(t *testing.T) {
	g := newRig(t, keys.Options{DataKeyUses: 100})
	calls := func(want int, why string) {
		t.Helper()
		g.must(g.encrypt(keys.Confidential, "a"))
		if n := g.spy.Calls("DataKeys"); n != want {
			t.Errorf("%s: %d calls for data keys, want %d", why, n, want)
		}
	}
	calls(1, "first")
	g.clock.advance(30*time.Minute - 1)
	calls(1, "just below the age")
	g.clock.advance(1)
	calls(2, "at the age")
	for range 99 {
		g.must(g.encrypt(keys.Confidential, "a"))
	}
	calls(3, "used up")
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, g.ring.ClassID(keys.Confidential)); err != nil {
		t.Fatal(err)
	}
	calls(4, "rotated")
	values := make([]keys.Value, 250)
	for i := range values {
		values[i] = keys.Value{Class: keys.Confidential, Context: keys.Context{Tenant: "b"}}
	}
	results, err := g.ring.Encrypt(t.Context(), keys.By{}, values)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]int{}
	for _, e := range results {
		env, err := keystest.Decode(g.must(e).Text)
		if err != nil {
			t.Fatal(err)
		}
		uses[string(env.Wrapped)]++
	}
	for _, n := range uses {
		if n > 100 {
			t.Errorf("one data key encrypted %d values", n)
		}
	}
}

func TestDataKeysAreBounded(t *testing.T) {
	g := newRig(t, keys.Options{CacheEntries: 3})
	for i := range 5 {
		g.must(g.encrypt(keys.Internal, fmt.Sprint(i)))
	}
	for _, tenant := range []string{"4", "3", "2"} {
		g.must(g.encrypt(keys.Internal, tenant))
	}
	if n := g.spy.Calls("DataKeys"); n != 5 {
		t.Errorf("%d calls for data keys; the last three were not kept", n)
	}
	g.must(g.encrypt(keys.Internal, "0"))
	if n := g.spy.Calls("DataKeys"); n != 6 {
		t.Errorf("%d calls for data keys; more than three were kept", n)
	}
}

func TestOneFetchForAll(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.must(g.encrypt(keys.Internal, "first"))
	entered, release := make(chan struct{}), make(chan struct{})
	g.spy.Before = func(operation, _ string) error {
		if operation == "DataKeys" {
			entered <- struct{}{}
			<-release
		}
		return nil
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { g.must(g.encrypt(keys.Internal, "tenant")) })
	}
	<-entered
	close(release)
	wg.Wait()
	if n := g.spy.Calls("DataKeys"); n != 2 {
		t.Errorf("%d calls for data keys, want 2", n)
	}
}

func TestUnavailable(t *testing.T) {
	g := newRig(t, keys.Options{})
	warm := g.encrypt(keys.Confidential, "a")
	cold := g.encrypt(keys.Restricted, "a")
	g.must(warm)
	id := g.ring.ID("jwt")
	if _, err := g.ring.EnsureKey(t.Context(), keys.By{}, id, keys.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	tags, err := g.ring.Sign(t.Context(), id, 0, keys.ES256, [][]byte{[]byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(warm, "a"); err != nil {
		t.Fatal(err)
	}
	g.spy.Before = func(string, string) error {
		return &keys.UnavailableError{Reason: keys.ReasonSealed, RetryAfter: time.Second}
	}
	g.clock.advance(5 * time.Minute)
	g.must(g.encrypt(keys.Confidential, "a"))
	if err := g.decrypt(warm, "a"); err != nil {
		t.Errorf("in memory: %v", err)
	}
	if err := g.ring.Verify(t.Context(), id, keys.ES256, []byte("m"), tags[0]); err != nil {
		t.Errorf("verify by the public key known: %v", err)
	}
	described := g.spy.Calls("Describe")
	for range 10 { // the backend is left alone for some seconds
		if err := g.ring.Verify(t.Context(), id, keys.ES256, []byte("m"), tags[0]); err != nil {
			t.Error(err)
		}
	}
	if n := g.spy.Calls("Describe"); n != described {
		t.Errorf("%d calls to a backend that is sealed", n-described)
	}
	for name, err := range map[string]error{
		"encrypt":    g.encrypt(keys.Confidential, "b").Err,
		"restricted": g.encrypt(keys.Restricted, "a").Err,
		"decrypt":    g.decrypt(cold, "a"),
	} {
		u, ok := errors.AsType[*keys.UnavailableError](err)
		if !errors.Is(err, keys.ErrUnavailable) || !ok || u.Reason != keys.ReasonSealed || u.RetryAfter != time.Second {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(g.rec.Events(keys.EventOpeningFailed)); n != 0 {
		t.Errorf("%d records of values that did not open", n)
	}
}

// TestNothingIsTold looks for the plaintext in whatever comes out.
func TestNothingIsTold(t *testing.T) {
	const canary = "4929-CANARY-PLAINTEXT"
	g := newRig(t, keys.Options{})
	where := keys.Context{Tenant: "a", Pointer: "/card"}
	text, err := g.ring.EncryptOne(t.Context(), keys.By{}, keys.Value{Class: keys.Restricted, Context: where, Data: []byte(canary)})
	if err != nil {
		t.Fatal(err)
	}
	g.spy.After = func(operation, _ string) error {
		if operation == "MAC" {
			return errors.New("broken")
		}
		return nil
	}
	_, refused := g.ring.DecryptOne(t.Context(), keys.By{}, keys.Ciphertext{Text: text})
	_, failed := g.ring.EncryptOne(t.Context(), keys.By{}, keys.Value{Class: keys.TopSecret, Context: where, Data: []byte(canary)})
	if refused == nil || failed == nil {
		t.Fatal("no errors to look at")
	}
	if out := fmt.Sprintf("%v %v %+v", refused, failed, g.rec.Events("")); strings.Contains(out, "CANARY") {
		t.Errorf("told: %s", out)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(g.ring.Collectors()...)
	families, err := registry.Gather()
	if err != nil || strings.Contains(fmt.Sprint(families), "CANARY") || len(families) < 4 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
}

// TestUnrecorded shows that nothing is given out when the log is down.
func TestUnrecorded(t *testing.T) {
	g := newRig(t, keys.Options{})
	down := errors.New("audit_unavailable")
	refuse := true
	g.rec.Before = func(keys.Event) error {
		if refuse {
			return down
		}
		return nil
	}
	if err := g.encrypt(keys.Internal, "a").Err; !errors.Is(err, down) {
		t.Fatalf("encrypted with a key whose creation is not recorded: %v", err)
	}
	if err := g.encrypt(keys.Internal, "a").Err; !errors.Is(err, down) {
		t.Fatalf("encrypted with it at the second try: %v", err)
	}
	refuse = false
	e := g.encrypt(keys.Internal, "a")
	g.must(e)
	if n := len(g.rec.Events(keys.EventCreated)); n != 1 {
		t.Errorf("%d records of one key", n)
	}
	refuse = true
	results, err := g.ring.Decrypt(t.Context(), keys.By{}, []keys.Ciphertext{
		{Text: e.Text, Context: keys.Context{Tenant: "a"}}, {Text: e.Text, Context: keys.Context{Tenant: "b"}},
	})
	if !errors.Is(err, down) || results != nil {
		t.Errorf("decrypt: %v, %d results", err, len(results))
	}
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, g.ring.ClassID(keys.Internal)); !errors.Is(err, down) || g.version(g.ring.ClassID(keys.Internal)) != 1 {
		t.Errorf("rotate: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	g := newRig(t, keys.Options{})
	for _, o := range []keys.Options{
		{Prefix: "a/b"},
		{Prefix: strings.Repeat("a", keys.MaxName)},
		{Policies: keys.Policies{keys.Internal: {Algorithm: keys.AES256}}},
		{Policies: keys.Policies{9: keys.DefaultPolicies()[keys.Internal]}},
	} {
		if _, err := keys.New(g.spy, g.store, g.rec, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := keys.New(nil, g.store, g.rec, keys.Options{}); err == nil {
		t.Error("no backend was taken")
	}
}
