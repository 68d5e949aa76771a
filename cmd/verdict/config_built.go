package main

import (
	"reflect"
	"strings"
)

// Warning is something about a configuration that an operator should know
// and that does not stop verdict.
type Warning struct {
	// Key is the key that it is about.
	Key string `json:"key"`
	// Text says what it is.
	Text string `json:"text"`
	// From is where the value came from.
	From string `json:"from"`
}

// String gives the warning on one line.
func (w Warning) String() string {
	return Problem(w).String()
}

// missingFeature is a feature that has its keys already and is not built yet.
type missingFeature struct {
	// key is the field or section that turns it on.
	key string
	// name is what it is called in messages.
	name string
	// protects marks what restricts or protects something: a start that
	// leaves it out is refused, where another only warns.
	protects bool
	// built is the value that works without the feature, as --set takes it.
	built string
}

// missingFeatures is the table of what this version accepts and lacks. The
// issue that builds a feature removes its lines.
func missingFeatures() []missingFeature {
	return []missingFeature{
		{key: "keys.escrow.public_key", name: "escrow of keys"},
	}
}

// unbuilt names the keys that somebody gave for features that this version
// lacks.
func (c *Config) unbuilt() ([]Warning, Problems) {
	var warnings []Warning
	var problems Problems
	missing := missingFeatures()
	for f := range c.fields() {
		if !c.IsSet(f.key) {
			continue
		}
		m, ok := lacking(missing, f.key)
		if !ok || m.protects && asksForNothing(f, m.built) {
			continue
		}
		from := c.Origin(f.key).String()
		if m.protects {
			problems = append(problems, Problem{Key: f.key, From: from, Text: m.name + " is not built yet, so verdict would start without it; " + m.advice()})
			continue
		}
		warnings = append(warnings, Warning{Key: f.key, From: from, Text: m.name + " is not built yet; the setting has no effect"})
	}
	return warnings, problems
}

// asksForNothing tells whether the value of f works without the feature.
func asksForNothing(f field, built string) bool {
	if f.value.Kind() == reflect.Slice {
		return f.value.Len() == 0
	}
	return formatValue(f.value) == built
}

// advice says how to start without the feature.
func (m missingFeature) advice() string {
	if m.built == "" {
		return "remove it"
	}
	return "remove it or set it to " + m.built
}

// lacking gives the first entry of the table that key lies at or under.
func lacking(missing []missingFeature, key string) (missingFeature, bool) {
	for _, m := range missing {
		if key == m.key || strings.HasPrefix(key, m.key+".") {
			return m, true
		}
	}
	return missingFeature{}, false
}
