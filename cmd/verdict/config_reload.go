package main

import "reflect"

// Diff names the keys that differ between c, which is running, and next,
// which SIGHUP read. The error is [Problems] when one of them needs a
// restart: then nothing of next may be taken.
func (c *Config) Diff(next *Config) ([]string, error) {
	var changed []string
	var problems Problems
	values, fields := map[string]string{}, map[string]reflect.Value{}
	for f := range c.fields() {
		values[f.key], fields[f.key] = formatValue(f.value), f.value
	}
	for f := range next.fields() {
		if formatValue(f.value) == values[f.key] && sameSecrets(f.value, fields[f.key]) {
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
