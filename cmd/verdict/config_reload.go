package main

import (
	"slices"
	"strings"
)

// Diff names the keys that differ between c, which is running, and next,
// which SIGHUP read. The error is [Problems] when one of them needs a
// restart: then nothing of next may be taken.
func (c *Config) Diff(next *Config) ([]string, error) {
	var changed []string
	var problems Problems
	values := map[string]string{}
	for f := range c.fields() {
		values[f.key] = formatValue(f.value)
	}
	for f := range next.fields() {
		if formatValue(f.value) == values[f.key] {
			continue
		}
		changed = append(changed, f.key)
		if !f.reload {
			problems = append(problems, Problem{
				Key: f.key, From: next.Origin(f.key).String(),
				Text: "cannot change without a restart; the configuration stays as it was",
			})
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return changed, nil
}

// changedBelow tells whether one of the changed keys is key or lies under it.
func changedBelow(changed []string, key string) bool {
	return slices.ContainsFunc(changed, func(k string) bool {
		return k == key || strings.HasPrefix(k, key+".")
	})
}
