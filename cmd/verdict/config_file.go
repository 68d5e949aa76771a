package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigFile bounds the configuration file.
const maxConfigFile = 1 << 20

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Key is the key that it is about; empty when it is about the file.
	Key string `json:"key,omitempty"`
	// Text says what is wrong and what would be right.
	Text string `json:"text"`
	// From is where the value came from; empty for a default.
	From string `json:"from,omitempty"`
}

// String gives the problem on one line.
func (p Problem) String() string {
	s := p.Text
	if p.Key != "" {
		s = p.Key + ": " + s
	}
	if p.From != "" {
		s += " (" + p.From + ")"
	}
	return s
}

// Problems is the error of a configuration that cannot be used: all that is
// wrong with it, not only the first.
type Problems []Problem

// Error gives one problem a line.
func (p Problems) Error() string {
	lines := make([]string, 0, len(p)+1)
	if len(p) > 1 {
		lines = append(lines, strconv.Itoa(len(p))+" problems in the configuration:")
	}
	for _, problem := range p {
		lines = append(lines, problem.String())
	}
	return strings.Join(lines, "\n  ")
}

// readFile brings the file at path into c.
func (c *Config) readFile(path string) (Problems, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() // only read from
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfigFile {
		return nil, fmt.Errorf("read configuration %s: larger than %s", path, Size(maxConfigFile))
	}
	root, err := parseYAML(b)
	if err != nil {
		return Problems{{Text: err.Error(), From: path}}, nil
	}
	if root == nil {
		return nil, nil
	}
	r := nodeReader{file: path, origins: c.origins}
	r.set(reflect.ValueOf(c).Elem(), root, "")
	return r.problems, nil
}

// parseYAML gives the root of the one document in b, nil when there is none.
func parseYAML(b []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("line %d: only one YAML document may stand in the file", max(more.Line, 1))
	}
	return doc.Content[0], nil
}

// nodeReader sets values from YAML nodes and collects what is wrong.
type nodeReader struct {
	file     string            // name for messages; empty: no place is given
	origins  map[string]Origin // where the place of each field is noted; nil: nowhere
	problems Problems
}

func (r *nodeReader) place(n *yaml.Node) string {
	if r.file == "" {
		return ""
	}
	return r.file + ":" + strconv.Itoa(n.Line)
}

func (r *nodeReader) fail(n *yaml.Node, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...), From: r.place(n)})
}

// set gives v, which is the value of key, what n says.
func (r *nodeReader) set(v reflect.Value, n *yaml.Node, key string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	if isSection(v.Type()) {
		if !null { // a section whose keys are all commented out
			r.setSection(v, n, key)
		}
		return
	}
	if null {
		r.fail(n, key, "has no value; give one or remove the line")
		return
	}
	if r.origins != nil {
		r.origins[key] = Origin{Source: SourceFile, Detail: r.place(n)}
	}
	switch v.Kind() {
	case reflect.Slice:
		r.setList(v, n, key)
	case reflect.Map:
		r.setMap(v, n, key)
	default:
		if n.Kind != yaml.ScalarNode {
			r.fail(n, key, "takes one value, not a list or section")
		} else if err := setText(v, n.Value); err != nil {
			r.fail(n, key, "%v", err)
		}
	}
}

func (r *nodeReader) setSection(v reflect.Value, n *yaml.Node, key string) {
	prefix := key
	if key != "" {
		prefix += "."
	}
	if n.Kind != yaml.MappingNode {
		if key == "" {
			r.fail(n, "", "the file must hold keys and values, as in server: {addr: 127.0.0.1:8181}")
			return
		}
		r.fail(n, key, "is a section of keys, not a value; its keys are %s", strings.Join(keysBelow(prefix), ", "))
		return
	}
	for name, value := range r.members(n, prefix) {
		child, ok := fieldByKey(v, name.Value)
		if !ok {
			r.fail(name, prefix+name.Value, "%s", unknownKey(prefix+name.Value))
			continue
		}
		r.set(child, value, prefix+name.Value)
	}
}

// members gives the members of a mapping; a repeated one is a problem.
func (r *nodeReader) members(n *yaml.Node, prefix string) func(func(name, value *yaml.Node) bool) {
	return func(yield func(name, value *yaml.Node) bool) {
		lines := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i]
			if first, ok := lines[name.Value]; ok {
				r.fail(name, prefix+name.Value, "is given twice, first in line %d; keep one", first)
				continue
			}
			lines[name.Value] = name.Line
			if !yield(name, n.Content[i+1]) {
				return
			}
		}
	}
}

func (r *nodeReader) setList(v reflect.Value, n *yaml.Node, key string) {
	if n.Kind != yaml.SequenceNode {
		r.fail(n, key, "takes a list, as in [a, b]")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	inner := nodeReader{file: r.file}
	for i, elem := range n.Content {
		inner.set(list.Index(i), elem, key+"["+strconv.Itoa(i)+"]")
	}
	r.problems = append(r.problems, inner.problems...)
	v.Set(list)
}

func (r *nodeReader) setMap(v reflect.Value, n *yaml.Node, key string) {
	if n.Kind != yaml.MappingNode {
		r.fail(n, key, "takes names and values, as in {name: [a, b]}")
		return
	}
	m := reflect.MakeMap(v.Type())
	for name, value := range r.members(n, key+".") {
		elem := reflect.New(v.Type().Elem()).Elem()
		r.set(elem, value, key+"."+name.Value)
		m.SetMapIndex(reflect.ValueOf(name.Value), elem)
	}
	v.Set(m)
}

func fieldByKey(v reflect.Value, name string) (reflect.Value, bool) {
	for t, value := range v.Fields() {
		if key := t.Tag.Get("key"); key != "" && key == name {
			return value, true
		}
	}
	return reflect.Value{}, false
}

// keysBelow gives the names of the keys directly below prefix.
func keysBelow(prefix string) []string {
	var names []string
	prefix = withoutIndex(prefix)
	for _, k := range knownKeys() {
		if name, ok := strings.CutPrefix(k, prefix); ok && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// unknownKey says that key is unknown and which one it is near.
func unknownKey(key string) string {
	return "unknown key; the nearest known one is " + nearest(withoutIndex(key), knownKeys())
}

// withoutIndex writes the numbers of list entries as the known keys do.
func withoutIndex(key string) string {
	return regexp.MustCompile(`\[\d+\]`).ReplaceAllString(key, "[]")
}
