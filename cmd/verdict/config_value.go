package main

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/verdict-pdp/verdict/internal/timespan"
)

// Size is a number of bytes. In configuration it is a plain number or one
// with a unit: 1048576, 1MiB, 1MB.
type Size int64

// Binary sizes.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// String gives the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseSize reads a size.
func parseSize(text string) (Size, error) {
	digits := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(text[:len(text)-len(digits)], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size; write bytes or a unit, for example 1048576 or 1MiB", text)
	}
	units := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	unit, ok := units[strings.TrimSpace(digits)]
	if !ok {
		return 0, fmt.Errorf("%q has the unknown unit %q; write KiB, MiB, GiB, TiB, KB, MB, GB or TB", text, strings.TrimSpace(digits))
	}
	if n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is more than a size can hold", text)
	}
	return Size(n * unit), nil
}

// setText gives v, which is not a list, the value that text stands for.
func setText(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		return store(p, text, timespan.Parse)
	case *Size:
		return store(p, text, parseSize)
	case *time.Time:
		return store(p, text, parseTime)
	case *bool:
		return store(p, text, parseBool)
	case *int:
		return store(p, text, parseInt)
	case *float64:
		return store(p, text, parseFloat)
	case *string:
		*p = text
		return nil
	case *Secret:
		*p = Secret(text)
		return nil
	}
	panic("no text stands for a " + v.Type().String())
}

// store reads text and keeps what it stands for in p.
func store[T any](p *T, text string, parse func(string) (T, error)) error {
	x, err := parse(text)
	if err != nil {
		return err
	}
	*p = x
	return nil
}

func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is not a time; write it as 2026-11-23T09:00:00Z", text)
	}
	return t, nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false", text)
}

func parseInt(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return n, nil
}

func parseFloat(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return f, nil
}

// setListText gives v, the list of key, what text stands for: names with
// commas between them, or YAML.
func setListText(v reflect.Value, key, text string) Problems {
	text = strings.TrimSpace(text)
	list, names := v.Addr().Interface().(*[]string)
	if names && !strings.HasPrefix(text, "[") {
		*list = []string{}
		for name := range strings.SplitSeq(text, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*list = append(*list, name)
			}
		}
		return nil
	}
	root, err := parseYAML([]byte(text))
	if err != nil || root == nil {
		return Problems{{Key: key, Text: "is not a list; write it as YAML, for example [a, b]"}}
	}
	r := nodeReader{}
	r.set(v, root, key)
	return r.problems
}

// formatValue gives the text that setText reads as v.
func formatValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case []string:
		if joined := strings.Join(x, ","); strings.Count(joined, ",") < max(len(x), 1) && !strings.HasPrefix(joined, "[") {
			return joined
		}
	case string:
		return x
	}
	node := nodeOf(v)
	if node.Kind == yaml.ScalarNode {
		return node.Value
	}
	b, err := yaml.Marshal(node)
	if err != nil {
		return fmt.Sprint(v.Interface())
	}
	return strings.TrimSpace(string(b))
}

// nodeOf gives v as YAML on one line. What is empty is left out of a struct.
func nodeOf(v reflect.Value) *yaml.Node {
	scalar := func(text string) *yaml.Node {
		n := &yaml.Node{}
		n.SetString(text)
		return n
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: x.Format(time.RFC3339)}
	case fmt.Stringer:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: x.String()}
	case string:
		return scalar(x)
	}
	switch v.Kind() {
	case reflect.Struct:
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for f, field := range v.Fields() {
			if !field.IsZero() {
				n.Content = append(n.Content, scalar(f.Tag.Get("key")), nodeOf(field))
			}
		}
		return n
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			n.Content = append(n.Content, scalar(k.String()), nodeOf(v.MapIndex(k)))
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for i := range v.Len() {
			n.Content = append(n.Content, nodeOf(v.Index(i)))
		}
		return n
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
	}
}
