package transit_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

// TestRate wants no call to Vault for values while their data key is in memory,
// and tells what that is worth beside one call for each value, both of 40 bytes.
func TestRate(t *testing.T) {
	const (
		values = 100_000
		calls  = 300
	)
	server := vaulttest.Dev(t)
	proxy := vaulttest.NewProxy(t, server.Address)
	b, client, mount := backend(t, server, func(o *vault.Options) { o.Address = proxy.URL })
	ring, _ := keystest.Ring(t, b, keys.Options{})
	data := bytes.Repeat([]byte("x"), 40)
	batch := make([]keys.Value, values)
	for i := range batch {
		batch[i] = keys.Value{Class: keys.Confidential, Context: keys.Context{Tenant: "a"}, Data: data}
	}
	if _, err := ring.Encrypt(t.Context(), keys.By{}, batch[:1]); err != nil { // makes the key and a data key
		t.Fatal(err)
	}
	before, started := proxy.Requests(), time.Now()
	sealed, err := ring.Encrypt(t.Context(), keys.By{}, batch)
	perValue := time.Since(started) / values
	if err != nil {
		t.Fatal(err)
	}
	if asked := proxy.Requests() - before; asked > 0 {
		t.Errorf("Vault is asked %d times for %d values", asked, values)
	}
	for i, s := range sealed {
		if s.Err != nil {
			t.Fatalf("value %d: %v", i, s.Err)
		}
	}
	call := vault.Call{
		Operation: "encrypt", Method: vault.Put, Path: mount + "/encrypt/" + ring.ClassID(keys.Confidential),
		Body: map[string]any{"plaintext": data, "context": []byte("a")},
	}
	started = time.Now()
	for range calls {
		if err := client.Do(t.Context(), call, nil); err != nil {
			t.Fatal(err)
		}
	}
	perCall := time.Since(started) / calls
	t.Logf("with a data key %v a value, by a call %v a value: %.0f times", perValue, perCall, float64(perCall)/float64(perValue))
}

// BenchmarkClasses measures one value of each class in batches of 100, Vault
// included.
func BenchmarkClasses(b *testing.B) {
	server := vaulttest.Dev(b)
	holder, _, _ := backend(b, server, nil)
	ring, _ := keystest.Ring(b, keystest.Prepare(b, holder), keys.Options{})
	for _, class := range []keys.Class{keys.Internal, keys.Confidential, keys.Restricted, keys.TopSecret} {
		b.Run(class.String(), func(b *testing.B) {
			const size = 100
			batch := make([]keys.Value, size)
			for i := range batch {
				batch[i] = keys.Value{Class: class, Context: keys.Context{Tenant: "a", ID: string(rune('a' + i%26))}, Data: bytes.Repeat([]byte("x"), 40)}
			}
			if _, err := ring.Encrypt(b.Context(), keys.By{}, batch[:1]); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := ring.Encrypt(b.Context(), keys.By{}, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/value")
		})
	}
}
