package tokens_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/tokens"
)

func TestParseScopes(t *testing.T) {
	for _, tc := range []struct {
		in, out []string // out nil: refused
	}{
		{[]string{}, []string{}},
		{[]string{"decide"}, []string{"decide"}},
		{
			[]string{"scim", "decide", "decide", "bundles:b", "bundles:a", "bundles:b", "bundles:a:read"},
			[]string{"decide", "scim", "bundles:a", "bundles:b", "bundles:a:read"},
		},
		{[]string{"bundles:*", "bundles:*:read"}, []string{"bundles:*", "bundles:*:read"}},
		{[]string{"bundles:team/authz-1.2_x"}, []string{"bundles:team/authz-1.2_x"}},
		{[]string{"bundles:read"}, []string{"bundles:read"}}, // a bundle of that name
		{[]string{"Decide"}, nil},
		{[]string{""}, nil},
		{[]string{"decide "}, nil},
		{[]string{"data:read"}, nil},
		{[]string{"bundles"}, nil},
		{[]string{"bundles:"}, nil},
		{[]string{"bundles::read"}, nil},
		{[]string{"bundles:a*"}, nil},
		{[]string{"bundles:a:write"}, nil},
		{[]string{"bundles:a:read:read"}, nil},
		{[]string{"bundles:" + strings.Repeat("x", 129)}, nil},
		{[]string{"bundles:ä"}, nil},
	} {
		got, err := tokens.ParseScopes(tc.in)
		if tc.out == nil {
			if !errors.Is(err, tokens.ErrScope) || !got.Empty() {
				t.Errorf("%q: %v, %v; want ErrScope and nothing", tc.in, got.Names(), err)
				continue
			}
			for _, valid := range tokens.ValidScopes() {
				if !strings.Contains(err.Error(), valid) {
					t.Errorf("%q: the error does not list %s: %v", tc.in, valid, err)
				}
			}
			continue
		}
		if err != nil || !slices.Equal(got.Names(), tc.out) {
			t.Errorf("%q: %q, %v; want %q", tc.in, got.Names(), err, tc.out)
		}
	}
}

func TestScopesHold(t *testing.T) {
	parse := func(names ...string) tokens.Scopes {
		s, err := tokens.ParseScopes(names)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	admin, none := parse("admin"), parse()
	for i, name := range tokens.ValidScopes()[:10] {
		want := tokens.Scope(1) << i
		if want.String() != name {
			t.Errorf("scope %d is %s, want %s", i, want, name)
		}
		if s := parse(name); !s.Has(want) || !s.Has(want|tokens.SCIM) || !admin.Has(want) || none.Has(want) {
			t.Errorf("%s: what holds it is wrong", name)
		}
		if name != "decide" && name != "admin" && parse("decide").Has(want) {
			t.Errorf("decide holds %s", name)
		}
	}
	for _, tc := range []struct {
		scope, bundle string
		push, pull    bool
	}{
		{"admin", "a", true, true},
		{"bundles:a", "a", true, true},
		{"bundles:a", "b", false, false},
		{"bundles:a", "", false, false},
		{"bundles:*", "b", true, true},
		{"bundles:*", "", true, true},
		{"bundles:a:read", "a", false, true},
		{"bundles:*:read", "b", false, true},
		{"bundles:*:read", "", false, true},
		{"decide", "a", false, false},
	} {
		s := parse(tc.scope)
		if s.MayPush(tc.bundle) != tc.push || s.MayPull(tc.bundle) != tc.pull {
			t.Errorf("%s on %q: push %v pull %v", tc.scope, tc.bundle, s.MayPush(tc.bundle), s.MayPull(tc.bundle))
		}
	}
	if !none.Empty() || admin.Empty() || parse("bundles:a:read").Empty() {
		t.Error("Empty is wrong")
	}
	if got := (tokens.Admin | tokens.AuditRead).String(); got != "audit:read admin" {
		t.Errorf("String: %q", got)
	}
}
