package workload

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand"
	"strings"
)

const (
	// BallastRules is how many rules a ballast bundle has, BallastData about how
	// many bytes of JSON.
	BallastRules = 20_000
	BallastData  = 20 << 20

	// BallastName is the bundle's name and its root.
	BallastName = "ballast"

	ballastModules = 200
)

// Ballast makes a bundle as a tar.gz that no request asks for: it only has to be
// taken, built and swapped in. Each revision has other rules and other data.
func Ballast(revision int) ([]byte, error) {
	var archive bytes.Buffer
	packed, err := gzip.NewWriterLevel(&archive, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("make ballast: %w", err)
	}
	t := tar.NewWriter(packed)
	write := func(name string, content []byte) {
		if err == nil {
			err = t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
		}
		if err == nil {
			_, err = t.Write(content)
		}
	}
	write(".manifest", encode(map[string]any{"revision": fmt.Sprintf("r%d", revision), "roots": []string{BallastName}}))
	for i := range ballastModules {
		write(fmt.Sprintf("m%d.rego", i), ballastModule(i, revision))
	}
	write("data.json", encode(map[string]any{BallastName: map[string]any{"grants": ballastData(revision)}}))
	for _, close := range []func() error{t.Close, packed.Close} {
		if err == nil {
			err = close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make ballast: %w", err)
	}
	return archive.Bytes(), nil
}

func ballastModule(n, revision int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "package %s.m%d\n", BallastName, n)
	for i := range BallastRules / ballastModules {
		fmt.Fprintf(&b, "\nallow if {\n\tinput.action == \"act-%d\"\n\tinput.resource.id in data.%s.grants[input.user].resources\n\tinput.level >= %d\n}\n", i, BallastName, revision%7)
	}
	return []byte(b.String())
}

func ballastData(revision int) map[string]any {
	random := rand.New(rand.NewSource(DataSeed + int64(revision)))
	grants := make(map[string]any)
	for size := 0; size < BallastData; {
		resources := make([]string, 20)
		for i := range resources {
			resources[i] = fmt.Sprintf("res-%0*d", idDigits, random.Intn(100_000_000))
		}
		user := fmt.Sprintf("user-%d", len(grants))
		grants[user] = map[string]any{"resources": resources, "level": random.Intn(9), "active": random.Intn(2) == 0}
		size += 20*15 + 60
	}
	return grants
}
