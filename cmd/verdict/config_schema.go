package main

import (
	"iter"
	"reflect"
	"strings"
	"time"
)

// field is one key of the configuration that can be given on its own.
type field struct {
	key    string        // server.tls.cert_file
	value  reflect.Value // settable
	reload bool          // SIGHUP may change it
}

// env is the environment variable of the field.
func (f field) env() string { return envPrefix + envName(f.key) }

const envPrefix = "VERDICT_"

func envName(key string) string { return strings.ToUpper(strings.ReplaceAll(key, ".", "_")) }

// fields gives all fields of c in the order of their declaration.
func (c *Config) fields() iter.Seq[field] {
	return func(yield func(field) bool) {
		eachField(reflect.ValueOf(c).Elem(), "", yield)
	}
}

// field finds a field by its key.
func (c *Config) field(key string) (field, bool) {
	for f := range c.fields() {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

func eachField(v reflect.Value, prefix string, yield func(field) bool) bool {
	for t, value := range v.Fields() {
		name := t.Tag.Get("key")
		switch {
		case name == "":
		case isSection(t.Type):
			if !eachField(value, prefix+name+".", yield) {
				return false
			}
		default:
			if !yield(field{key: prefix + name, value: value, reload: t.Tag.Get("reload") == "yes"}) {
				return false
			}
		}
	}
	return true
}

// isSection tells whether t is a struct of keys and not a value.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]()
}

// knownKeys gives every key: sections, fields, and the keys of list entries
// (authn.issuers[].audience).
func knownKeys() []string {
	var keys []string
	appendKeys(&keys, reflect.TypeFor[Config](), "")
	return keys
}

func appendKeys(keys *[]string, t reflect.Type, prefix string) {
	for f := range t.Fields() {
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		*keys = append(*keys, prefix+name)
		switch elem := f.Type; {
		case isSection(elem):
			appendKeys(keys, elem, prefix+name+".")
		case elem.Kind() == reflect.Slice && isSection(elem.Elem()):
			appendKeys(keys, elem.Elem(), prefix+name+"[].")
		}
	}
}

// nearest gives the candidate that key was most likely meant to be: the one
// with the fewest edits, where a right name in the wrong section counts as
// one edit.
func nearest(key string, candidates []string) string {
	best, distance := "", 0
	for _, c := range candidates {
		d := editDistance(key, c)
		if key[strings.LastIndexByte(key, '.')+1:] == c[strings.LastIndexByte(c, '.')+1:] {
			d = min(d, 1)
		}
		if best == "" || d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance of a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
