package workload

import (
	_ "embed"
	"fmt"
	"math/rand"
	"slices"
)

const (
	usersSmall  = 1_000
	usersCold   = 200_000
	digitsSmall = 4
	digitsLarge = 7
)

//go:embed rbac.rego
var rbacPolicy []byte

// RBAC returns the first set: roles with one level of inheritance, business
// hours and blocked countries, 1,000 users, 20,000 distinct requests.
func RBAC() *Set {
	o := newOrganisation(usersSmall, digitsSmall)
	rnd := rand.New(rand.NewSource(RequestSeed))
	set := rbacSet(o)
	set.Name, set.Title = "rbac", "1,000 users, 20,000 distinct requests"
	set.Files["check.rego"] = checkPolicy
	ids := newIDs(rnd)
	for _, kind := range outcomes(rnd, Requests) {
		user := o.names[rnd.Intn(len(o.names))]
		q := o.question(rnd, user, ids.next(), kind)
		set.Requests = append(set.Requests, q.body())
		set.Checks = append(set.Checks, q.check())
	}
	return set
}

// Cold returns the second set: the policy of the first, 200,000 users, and
// one request for each of them, so that no subject is seen twice.
func Cold() *Set {
	o := newOrganisation(usersCold, digitsLarge)
	rnd := rand.New(rand.NewSource(RequestSeed))
	set := rbacSet(o)
	set.Name, set.Title = "cold", "every subject new: 200,000 users, one request each"
	set.Cold = true
	ids := newIDs(rnd)
	kinds := outcomes(rnd, usersCold)
	for i, n := range rnd.Perm(usersCold) {
		set.Requests = append(set.Requests, o.question(rnd, o.names[n], ids.next(), kinds[i]).body())
	}
	return set
}

// Grown returns the first set's policy with its data document grown to at
// least size bytes of JSON by adding users, and 1,000 requests.
func Grown(size int) *Set {
	const perUser = 34 // bytes of JSON, a little below the average
	o := newOrganisation(size/perUser, digitsLarge)
	set := rbacSet(o)
	set.Name, set.Title = "grown", fmt.Sprintf("%d users", len(o.names))
	rnd := rand.New(rand.NewSource(RequestSeed))
	ids := newIDs(rnd)
	for _, kind := range outcomes(rnd, 1_000) {
		user := o.names[rnd.Intn(len(o.names))]
		set.Requests = append(set.Requests, o.question(rnd, user, ids.next(), kind).body())
	}
	return set
}

func rbacSet(o *organisation) *Set {
	return &Set{
		Path:     "authz/allow",
		FreshIDs: true,
		Files:    map[string][]byte{"authz.rego": rbacPolicy, "data.json": o.data()},
	}
}

// outcome is what a request is made to run into.
type outcome int

const (
	granted outcome = iota
	lacking
	outOfHours
	blockedCountry
)

// outcomes returns n outcomes in random order: half granted; of the rest half
// lack the permission, a quarter are out of hours, a quarter blocked.
func outcomes(rnd *rand.Rand, n int) []outcome {
	all := make([]outcome, n)
	for i := range all {
		switch {
		case i%2 == 0:
			all[i] = granted
		case i%4 == 1:
			all[i] = lacking
		case i%8 == 3:
			all[i] = outOfHours
		default:
			all[i] = blockedCountry
		}
	}
	rnd.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// question returns a question of the user that comes out as kind says, and for
// no other reason.
func (o *organisation) question(rnd *rand.Rand, user string, id int, kind outcome) *question {
	may := o.permissions(user)
	p := may[rnd.Intn(len(may))]
	for kind == lacking && slices.Contains(may, p) {
		p = permission{o.types[rnd.Intn(len(o.types))], o.actions[rnd.Intn(len(o.actions))]}
	}
	hour, weekday := openingHour+rnd.Intn(closingHour-openingHour), 1+rnd.Intn(5)
	if kind == outOfHours {
		hour, weekday = closedAt(rnd)
	}
	country := o.countries[rnd.Intn(len(o.countries))]
	if kind == blockedCountry {
		country = o.blocked[rnd.Intn(len(o.blocked))]
	}
	return &question{
		user: user, permission: p, id: id, hour: hour, weekday: weekday, country: country, allowed: kind == granted,
	}
}

// closedAt returns an hour and a weekday outside business hours.
func closedAt(rnd *rand.Rand) (hour, weekday int) {
	for {
		hour, weekday = rnd.Intn(24), rnd.Intn(7)
		if hour < openingHour || hour >= closingHour || weekday < 1 || weekday > 5 {
			return hour, weekday
		}
	}
}

// ids hands out distinct numbers for resource ids.
type ids struct {
	rnd  *rand.Rand
	used map[int]bool
}

func newIDs(rnd *rand.Rand) *ids { return &ids{rnd: rnd, used: make(map[int]bool)} }

func (s *ids) next() int {
	for {
		n := s.rnd.Intn(100_000_000)
		if !s.used[n] {
			s.used[n] = true
			return n
		}
	}
}
