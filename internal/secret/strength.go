package secret

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Rule is what a secret must be like. The zero Rule asks for MinLength.
type Rule struct {
	// Length is the least number of bytes; below MinLength: that.
	Length int
	// Line asks for one line of printable ASCII without spaces, as a token in
	// a header must be.
	Line bool
	// EachLine holds the rule against each line that is not empty.
	EachLine bool
}

const (
	// MinLength is the least length of any secret in bytes.
	MinLength = 12
	// bitsPerByte is how much chance each byte of the least length must carry:
	// hexadecimal digits have 4, words 2 to 3.
	bitsPerByte = 2.25
)

// forbidden are words that secrets of examples, defaults and hasty people are
// made of.
func forbidden() []string {
	return []string{
		"changeme", "password", "passwort", "passwd", "secret", "default", "admin", "letmein", "qwerty",
		"welcome", "example", "verdict", "123456", "test", "token", "demo", "root", "guest", "insecure",
	}
}

// Check tells what is wrong with a secret, in words that do not tell it.
func (r Rule) Check(value []byte) error {
	if lines := bytes.FieldsFunc(value, func(c rune) bool { return c == '\n' || c == '\r' }); r.EachLine && len(lines) > 1 {
		for _, line := range lines {
			if err := (Rule{Length: r.Length, Line: r.Line}).Check(line); err != nil {
				return fmt.Errorf("has a line that %w", err)
			}
		}
		return nil
	}
	least := max(r.Length, MinLength)
	lower := strings.ToLower(string(value))
	plain := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= utf8.RuneSelf {
			return c
		}
		return -1
	}, lower)
	rest := plain
	for _, word := range forbidden() {
		rest = strings.ReplaceAll(rest, word, "")
	}
	switch {
	case len(value) == 0:
		return errors.New("is empty")
	case rest == "" && plain != "":
		return errors.New("is a default that everybody tries first; make one by chance, as from: openssl rand -base64 48")
	case len(value) < least:
		return fmt.Errorf("has %d bytes, want at least %d; make one by chance, as from: openssl rand -base64 48", len(value), least)
	case r.Line && bytes.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return errors.New("is not one line of printable ASCII without spaces")
	case rest != plain && len(rest) < least*3/4:
		return errors.New("consists of words that everybody tries first; make one by chance, as from: openssl rand -base64 48")
	case chance(value) < bitsPerByte*float64(least):
		return errors.New("is too regular to be a secret; make one by chance, as from: openssl rand -base64 48")
	}
	return nil
}

// chance estimates the entropy of a secret in bits, from above: by how often
// each byte is there, as far as the bytes neither repeat nor count up.
func chance(value []byte) float64 {
	value = value[:period(value)]
	if steady(value) {
		return 0
	}
	var counts [256]int
	for _, b := range value {
		counts[b]++
	}
	bits, n := 0.0, float64(len(value))
	for _, c := range counts {
		if c > 0 {
			bits -= float64(c) * math.Log2(float64(c)/n)
		}
	}
	return bits
}

// period is the length of the shortest beginning that the value repeats.
func period(value []byte) int {
	// fail[i] is the length of the longest beginning that value[:i+1] ends with
	// (Knuth, Morris and Pratt).
	fail := make([]int, len(value))
	for i, k := 1, 0; i < len(value); i++ {
		for k > 0 && value[i] != value[k] {
			k = fail[k-1]
		}
		if value[i] == value[k] {
			k++
		}
		fail[i] = k
	}
	if len(value) == 0 {
		return 0
	}
	return len(value) - fail[len(value)-1]
}

// steady tells whether most bytes differ from the one before by the same step,
// as in abcdef and 987654.
func steady(value []byte) bool {
	var steps [256]int
	most := 0
	for i := 1; i < len(value); i++ {
		steps[value[i]-value[i-1]]++
		most = max(most, steps[value[i]-value[i-1]])
	}
	return len(value) > 1 && most*4 > (len(value)-1)*3
}
