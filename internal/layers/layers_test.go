package layers_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/layers"
)

const opa = "github.com/open-policy-agent/opa/v1/"

// module is the table of this module, from the outside in. Rows that hold
// nothing yet are here so that what comes finds its place.
func module() layers.Table {
	return layers.Table{
		Top:     9,
		SideRow: 1,
		Places: []layers.Place{
			{Path: "cmd/verdict", Row: 9},

			{Path: "api/opa", Row: 8},
			{Path: "api/authzen", Row: 8},
			{Path: "api/extauthz", Row: 8},
			{Path: "api/forwardauth", Row: 8},
			{Path: "api/native", Row: 8},
			{Path: "api/openapi", Row: 8},
			{Path: "api/bundleserver", Row: 8},
			{Path: "api/oauth", Row: 8},
			{Path: "api/scim", Row: 8},
			{Path: "api/ssf", Row: 8},
			{Path: "api/console", Row: 8},

			{Path: "api", Row: 7},

			{Path: "api/middleware", Row: 6},
			{Path: "api/httpcheck", Row: 6},
			{Path: "api/tokens", Row: 6},
			{Path: "bundles/pull", Row: 6},

			{Path: "bundles", Row: 5},
			{Path: "pdp/search", Row: 5},
			{Path: "keys/service", Row: 5},
			{Path: "incident", Row: 5},
			{Path: "assurance", Row: 5},

			{Path: "pdp", Row: 4},

			{Path: "pdp/pip", Row: 3},
			{Path: "pdp/replay", Row: 3},
			{Path: "pdp/trial", Row: 3},
			{Path: "identity", Row: 3},

			{Path: "pdp/eval", Row: 2},
			{Path: "pdp/pip/geo", Row: 2},
			{Path: "identity/...", Row: 2},
			{Path: "incident/block", Row: 2},
			{Path: "keys/cert", Row: 2},
			{Path: "keys/jose", Row: 2},
			{Path: "keys/escrow", Row: 2},
			{Path: "keys/legacy", Row: 2},
			{Path: "keys/notary", Row: 2},
			{Path: "audit/verify", Row: 2, Never: []string{"audit"}},

			{Path: "audit", Row: 1},
			{Path: "audit/mask", Row: 1},
			{Path: "audit/checkpoint", Row: 1},
			{Path: "bundles/pack", Row: 1},
			{Path: "bundles/signature", Row: 1},
			{Path: "keys", Row: 1},
			{Path: "pdp/eval/irvm", Row: 1},

			{Path: "audit/chain", Row: 0},
			{Path: "storage", Row: 0},
			{Path: "internal/...", Row: 0},

			{Path: "storage/...", Side: true},
			{Path: "keys/transit", Side: true},
			{Path: "keys/local", Side: true},
			{Path: "audit/search", Side: true},
			{Path: "audit/follow", Side: true},
			{Path: "policies", Side: true},
			{Path: "client", Side: true, StandardOnly: true},
			{Path: "client/grpcauthz", Row: 9}, // over client, as the program is over what stands at the side
		},
		Guards: []layers.Guard{
			{Outside: opa + "topdown", Importers: []string{"pdp/eval"}},
			{Outside: opa + "rego", Importers: []string{"pdp/eval"}},
			{Outside: opa + "ir", Importers: []string{"pdp/eval", "pdp/eval/irvm"}},
			{Outside: "go.etcd.io/bbolt", Importers: []string{"storage/segment", "storage/state", "audit/verify", "audit/search", "internal/boltfile", "internal/surgeon"}},
		},
	}
}

func TestModule(t *testing.T) {
	packages := list(t)
	if len(packages) < 3 {
		t.Fatalf("go list found %d packages only", len(packages))
	}
	for _, message := range module().Check(packages) {
		t.Error(message)
	}
}

// list gives the packages of the module as go list sees them, broken ones
// too: what does not build is for the compiler to say.
func list(t *testing.T) []layers.Package {
	t.Helper()
	path := strings.TrimSpace(string(goList(t, "-m")))
	lookAtSources(t, strings.TrimSpace(string(goList(t, "-m", "-f={{.Dir}}"))))
	decoder := json.NewDecoder(bytes.NewReader(goList(t, "-e", "-json=ImportPath,Imports", path+"/...")))
	var packages []layers.Package
	for {
		var listed struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		p := layers.Package{Path: strings.TrimPrefix(listed.ImportPath, path+"/")}
		for _, imported := range listed.Imports {
			if inside, ok := strings.CutPrefix(imported, path+"/"); ok {
				p.Imports = append(p.Imports, inside)
			} else {
				p.Outside = append(p.Outside, imported)
			}
		}
		packages = append(packages, p)
	}
}

// lookAtSources makes go test remember this test's result only as long as no
// source of the module changes: it knows what the test itself looks at, and
// not what go list does.
func lookAtSources(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // others may remove files meanwhile
		t.Fatal(err)
	}
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCheck(t *testing.T) {
	table := layers.Table{
		Top:     3,
		SideRow: 1,
		Places: []layers.Place{
			{Path: "cmd", Row: 3},
			{Path: "upper", Row: 2},
			{Path: "middle", Row: 1},
			{Path: "beside", Row: 1},
			{Path: "base", Row: 0},
			{Path: "internal/...", Row: 0},
			{Path: "picky", Row: 2, Never: []string{"middle"}},
			{Path: "store", Side: true},
			{Path: "client", Side: true, StandardOnly: true},
		},
		Guards: []layers.Guard{{Outside: "example.com/engine", Importers: []string{"middle"}}},
	}
	for _, tt := range []struct {
		name    string
		path    string
		imports string
		outside string
		want    string
	}{
		{"downward", "upper", "middle base internal/a/b", "", ""},
		{"upward", "middle", "upper", "", "middle imports upper: row 2 is above row 1"},
		{"sideways", "middle", "beside", "", "middle imports beside: both stand in row 1"},
		{"sideways under a folder", "internal/a", "internal/b", "", "internal/a imports internal/b: both stand in row 0"},
		{"top wires the side", "cmd", "store client", "", ""},
		{"side from below the top", "upper", "store", "", "upper imports store: what stands at the side is wired by the top row only"},
		{"unknown", "client2", "", "", "client2 stands in no row; add it to the table in internal/layers"},
		{"side to low rows", "store", "middle base", "example.com/db", ""},
		{"side to a high row", "store", "upper", "", "store imports upper: what stands at the side imports rows 0 to 1 only, and this is row 2"},
		{"side imports side", "store", "client", "", "store imports client: what stands at the side is wired by the top row only"},
		{"by name", "picky", "middle", "", "picky imports middle: the table forbids it by name"},
		{"standard only, inside", "client", "base", "", "client imports base: only the standard library may be imported here"},
		{"standard only, outside", "client", "", "net/http example.com/x", "client imports example.com/x: only the standard library may be imported here"},
		{"guarded", "upper", "", "example.com/engine/run", "upper imports example.com/engine/run: only middle may"},
		{"guard's owner", "middle", "", "example.com/engine example.com/engine/run", ""},
		{"like a guarded name", "upper", "", "example.com/engine2", ""},
		{"unknown is said once", "upper", "new", "", ""},
		{"tests import all", "storetest", "upper cmd", "example.com/engine", ""},
		{"nobody imports tests", "cmd", "storetest", "", "cmd imports storetest: it is for tests only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			got := table.Check([]layers.Package{{Path: tt.path, Imports: strings.Fields(tt.imports), Outside: strings.Fields(tt.outside)}})
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}
