package keys_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
)

const (
	benchFields = 100_000
	benchBatch  = 1000
	benchSize   = 40
)

// BenchmarkFields encrypts 100,000 fields of 40 bytes with bare AES-GCM of the
// standard library and with the ring, in turn, in one run. The metric
// "times-bare" is what the ring costs more.
func BenchmarkFields(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "keys")
	backend, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	ring, _ := keystest.Ring(b, backend, keys.Options{})
	values := benchValues(keys.Confidential)
	if _, err := ring.Encrypt(b.Context(), keys.By{}, values[:1]); err != nil {
		b.Fatal(err)
	}
	bare := bareGCM(b)
	var forBare, forRing time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range values {
			if out := bare.Seal(nil, nil, values[i].Data, nil); len(out) == 0 {
				b.Fatal("nothing")
			}
		}
		forBare += time.Since(start)
		start = time.Now()
		seal(b, ring, values)
		forRing += time.Since(start)
	}
	n := float64(b.N * benchFields)
	b.ReportMetric(float64(forBare.Nanoseconds())/n, "bare-ns/value")
	b.ReportMetric(float64(forRing.Nanoseconds())/n, "ring-ns/value")
	b.ReportMetric(float64(forRing)/float64(forBare), "times-bare")
}

// BenchmarkClasses encrypts and decrypts 1,000 fields of one document in each
// class.
func BenchmarkClasses(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "keys")
	backend, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	ring, _ := keystest.Ring(b, keystest.Prepare(b, backend), keys.Options{})
	for _, class := range []keys.Class{keys.Internal, keys.Confidential, keys.Restricted, keys.TopSecret} {
		values := benchValues(class)[:benchBatch]
		b.Run(class.String()+"/encrypt", func(b *testing.B) {
			for b.Loop() {
				seal(b, ring, values)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchBatch), "ns/value")
		})
		b.Run(class.String()+"/decrypt", func(b *testing.B) {
			sealed, err := ring.Encrypt(b.Context(), keys.By{}, values)
			if err != nil {
				b.Fatal(err)
			}
			items := make([]keys.Ciphertext, len(sealed))
			for i := range sealed {
				items[i] = keys.Ciphertext{Text: sealed[i].Text, Context: values[i].Context}
			}
			if class == keys.TopSecret { // an RSA operation of some milliseconds each
				items = items[:20]
			}
			for b.Loop() {
				if opened, err := ring.Decrypt(b.Context(), keys.By{}, items); err != nil || opened[0].Err != nil {
					b.Fatal(err, opened[0].Err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/value")
		})
	}
}

func seal(b *testing.B, ring *keys.Ring, values []keys.Value) {
	b.Helper()
	for from := 0; from < len(values); from += benchBatch {
		sealed, err := ring.Encrypt(b.Context(), keys.By{}, values[from:from+benchBatch])
		if err != nil || sealed[0].Err != nil {
			b.Fatal(err, sealed[0].Err)
		}
	}
}

func benchValues(class keys.Class) []keys.Value {
	values := make([]keys.Value, benchFields)
	for i := range values {
		values[i] = keys.Value{
			Class:   class,
			Context: keys.Context{Tenant: "acme", Type: "customer", ID: "17", Pointer: fmt.Sprint("/rows/", i, "/name")},
			Data:    fmt.Appendf(nil, "%0*d", benchSize, i),
		}
	}
	return values
}

func bareGCM(b *testing.B) cipher.AEAD {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return aead
}
