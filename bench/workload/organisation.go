package workload

import (
	"cmp"
	"fmt"
	"math/rand"
	"slices"
	"strings"
)

const (
	roleCount   = 10
	rolePerms   = 20
	typeCount   = 40
	openingHour = 9
	closingHour = 17
)

// organisation is the data document and what the generator needs to know of it.
type organisation struct {
	actions, types, countries, blocked []string
	grants                             map[string]map[string][]string
	inherits                           map[string][]string
	users                              map[string][]string
	names                              []string
	allowed                            map[string][]permission // by the roles of a user, filled on demand
}

// permission is one action on one type of resource.
type permission struct{ kind, action string }

// newOrganisation makes roles, grants, inheritance and users. The users are
// numbered with the given count of digits.
func newOrganisation(users, digits int) *organisation {
	rnd := rand.New(rand.NewSource(DataSeed))
	o := &organisation{
		actions:   []string{"read", "create", "update", "delete", "approve"},
		countries: []string{"SE", "DE", "FR", "NL", "PL", "ES", "IT", "NO", "FI", "DK", "AT", "CH"},
		blocked:   []string{"XA", "XB", "XC", "XD", "XE", "XF", "XG", "XH"},
		grants:    make(map[string]map[string][]string),
		inherits:  make(map[string][]string),
		users:     make(map[string][]string, users),
		allowed:   make(map[string][]permission),
	}
	for i := range typeCount {
		o.types = append(o.types, fmt.Sprintf("type%02d", i))
	}
	for i := range roleCount {
		role := fmt.Sprintf("role%02d", i)
		byType := make(map[string][]string)
		for _, n := range rnd.Perm(typeCount * len(o.actions))[:rolePerms] {
			kind := o.types[n/len(o.actions)]
			byType[kind] = append(byType[kind], o.actions[n%len(o.actions)])
		}
		o.grants[role] = byType
		if i < roleCount/2 {
			o.inherits[role] = []string{fmt.Sprintf("role%02d", roleCount/2+rnd.Intn(roleCount/2))}
		}
	}
	for i := range users {
		name := fmt.Sprintf("user%0*d", digits, i)
		var roles []string
		for _, n := range rnd.Perm(roleCount)[:1+rnd.Intn(3)] {
			roles = append(roles, fmt.Sprintf("role%02d", n))
		}
		o.users[name] = roles
		o.names = append(o.names, name)
	}
	return o
}

// data returns the data document.
func (o *organisation) data() []byte {
	blocked := make(map[string]bool)
	for _, country := range o.blocked {
		blocked[country] = true
	}
	return encode(map[string]any{"rbac": map[string]any{
		"grants":   o.grants,
		"inherits": o.inherits,
		"users":    o.users,
		"blocked":  blocked,
		"hours":    map[string]int{"from": openingHour, "to": closingHour},
	}})
}

// permissions returns what the user may do, in a fixed order.
func (o *organisation) permissions(user string) []permission {
	key := strings.Join(o.users[user], " ")
	if all, ok := o.allowed[key]; ok {
		return all
	}
	var all []permission
	add := func(role string) {
		for kind, actions := range o.grants[role] {
			for _, action := range actions {
				all = append(all, permission{kind, action})
			}
		}
	}
	for _, role := range o.users[user] {
		add(role)
		for _, parent := range o.inherits[role] {
			add(parent)
		}
	}
	slices.SortFunc(all, func(a, b permission) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.action, b.action))
	})
	all = slices.Compact(all)
	o.allowed[key] = all
	return all
}
