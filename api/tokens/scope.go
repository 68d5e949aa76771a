package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Scope is a right that a caller may hold; values can be combined by | to ask
// for any of several. The zero value is no right.
type Scope uint16

// The scopes that name no bundle.
const (
	Decide        Scope = 1 << iota // ask for decisions
	DataWrite                       // write and remove data documents
	PoliciesWrite                   // write, remove and read policies
	AuditRead                       // read the audit log, status and configuration
	KeysEncrypt                     // encrypt
	KeysDecrypt                     // decrypt
	Sessions                        // manage sessions
	Directory                       // manage subjects, roles and devices
	SCIM                            // provision through SCIM
	Admin                           // everything
)

// maxBundleName bounds NAME in bundles:NAME.
const maxBundleName = 128

// ErrScope is returned when a scope is not one of those that exist.
var ErrScope = errors.New("unknown scope")

// fixedScopes are the names of the constants above, in their order.
func fixedScopes() [10]string {
	return [...]string{
		"decide", "data:write", "policies:write", "audit:read", "keys:encrypt",
		"keys:decrypt", "sessions", "directory", "scim", "admin",
	}
}

// ValidScopes lists every scope that ParseScopes takes.
func ValidScopes() []string {
	fixed := fixedScopes()
	return append(fixed[:len(fixed):len(fixed)], "bundles:NAME", "bundles:NAME:read")
}

// String names the scopes in s, separated by spaces as RFC 6750 has them.
func (s Scope) String() string {
	var names []string
	for i, name := range fixedScopes() {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// Scopes is a set of scopes. The zero value is empty. A value is immutable, so
// that it may be copied and shared.
type Scopes struct {
	fixed Scope
	push  []string // NAME of bundles:NAME
	pull  []string // NAME of bundles:NAME:read
}

// ParseScopes reads scopes as the token file and the configuration name them. The error
// for a name that is none wraps ErrScope and lists the valid ones.
func ParseScopes(names []string) (Scopes, error) {
	var s Scopes
	fixed := fixedScopes()
	for _, name := range names {
		if i := slices.Index(fixed[:], name); i >= 0 {
			s.fixed |= 1 << i
			continue
		}
		bundle, ok := strings.CutPrefix(name, "bundles:")
		if !ok {
			return Scopes{}, scopeError(name)
		}
		bundle, read := strings.CutSuffix(bundle, ":read")
		if !validBundleName(bundle) {
			return Scopes{}, scopeError(name)
		}
		if read {
			s.pull = insert(s.pull, bundle)
		} else {
			s.push = insert(s.push, bundle)
		}
	}
	return s, nil
}

// Has reports whether the set holds any scope of want, or admin.
func (s Scopes) Has(want Scope) bool { return s.fixed&(want|Admin) != 0 }

// MayPush reports whether the set allows to push, activate and roll back the
// bundle; the name "" stands for all bundles.
func (s Scopes) MayPush(bundle string) bool {
	return s.fixed&Admin != 0 || named(s.push, bundle)
}

// MayPull reports whether the set allows to read the bundle.
func (s Scopes) MayPull(bundle string) bool {
	return s.MayPush(bundle) || named(s.pull, bundle)
}

// With is the set of what s or o hold.
func (s Scopes) With(o Scopes) Scopes {
	s.fixed |= o.fixed
	s.push, s.pull = union(s.push, o.push), union(s.pull, o.pull)
	return s
}

// Empty reports whether the set holds nothing.
func (s Scopes) Empty() bool { return s.fixed == 0 && len(s.push) == 0 && len(s.pull) == 0 }

// Names lists the scopes in a fixed order; ParseScopes reads them back.
func (s Scopes) Names() []string {
	names := make([]string, 0, 4)
	for i, name := range fixedScopes() {
		if s.fixed&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	for _, b := range s.push {
		names = append(names, "bundles:"+b)
	}
	for _, b := range s.pull {
		names = append(names, "bundles:"+b+":read")
	}
	return names
}

func named(list []string, bundle string) bool {
	for _, b := range list {
		if b == "*" || (b == bundle && bundle != "") {
			return true
		}
	}
	return false
}

func insert(list []string, name string) []string {
	i, found := slices.BinarySearch(list, name)
	if found {
		return list
	}
	return slices.Insert(list, i, name)
}

// union is a sorted list of what is in either, which stay as they are.
func union(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	a = slices.Clone(a)
	for _, name := range b {
		a = insert(a, name)
	}
	return a
}

func validBundleName(name string) bool {
	if name == "*" {
		return true
	}
	if name == "" || len(name) > maxBundleName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == '/':
		default:
			return false
		}
	}
	return true
}

func scopeError(name string) error {
	return fmt.Errorf("%w %q: valid are %s", ErrScope, name, strings.Join(ValidScopes(), ", "))
}
