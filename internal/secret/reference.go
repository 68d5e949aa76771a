// Package secret reads secrets of the configuration: written out, or by
// reference to the environment, a file or Vault. What is weak is refused, what
// changes at its source is picked up, and nothing here prints a secret.
package secret

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Source is where a secret stands.
type Source string

// The sources.
const (
	Inline      Source = "inline" // in the configuration itself
	Environment Source = "env"
	File        Source = "file"
	Vault       Source = "vault"
)

const (
	// Redacted stands where a secret would.
	Redacted = "(redacted)"
	// maxReference bounds a reference, in bytes.
	maxReference = 4 << 10
)

// Reference says where a secret stands. Only of an inline one it holds the
// secret itself, and it prints none.
type Reference struct {
	source Source
	name   string // of the variable; the file; the path of a secret in Vault
	mount  string // of the engine in Vault
	field  string // of the secret in Vault
	inline string
}

// Parse reads env:NAME, file:/PATH or vault:MOUNT/PATH#FIELD. Every other text
// is the secret itself. Errors do not repeat the text.
func Parse(text string) (Reference, error) {
	source, rest, found := strings.Cut(text, ":")
	switch {
	case text == "":
		return Reference{}, errors.New("is empty; write env:NAME, file:/PATH or vault:MOUNT/PATH#FIELD")
	case len(text) > maxReference:
		return Reference{}, fmt.Errorf("is longer than %d bytes; put it into a file and write file:/PATH", maxReference)
	case strings.HasPrefix(text, "${") || strings.HasPrefix(text, "$("):
		return Reference{}, errors.New("looks like a variable of a shell, which nobody replaces here; write env:NAME")
	case !found:
		return Reference{source: Inline, inline: text}, nil
	}
	switch strings.ToLower(source) {
	case string(Environment):
		return parseEnvironment(source, rest)
	case string(File):
		return parseFile(source, rest)
	case string(Vault):
		return parseVault(source, rest)
	}
	return Reference{source: Inline, inline: text}, nil
}

func parseEnvironment(source, name string) (Reference, error) {
	if source != string(Environment) || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,255}$`).MatchString(name) {
		return Reference{}, errors.New("does not name a variable of the environment; write for example env:VERDICT_TEST_TOKEN")
	}
	return Reference{source: Environment, name: name}, nil
}

func parseFile(source, name string) (Reference, error) {
	if source != string(File) || !filepath.IsAbs(name) || strings.ContainsRune(name, 0) {
		return Reference{}, errors.New("does not name a file by its whole path; write for example file:/run/secrets/token")
	}
	return Reference{source: File, name: filepath.Clean(name)}, nil
}

func parseVault(source, rest string) (Reference, error) {
	where, field, _ := strings.Cut(rest, "#")
	mount, name, _ := strings.Cut(where, "/")
	part := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_. -]*$`)
	good := source == string(Vault) && part.MatchString(mount) && name != "" && path.Clean("/"+name) == "/"+name && part.MatchString(field)
	for segment := range strings.SplitSeq(name, "/") {
		good = good && part.MatchString(segment)
	}
	if !good {
		return Reference{}, errors.New("does not name a field of a secret in Vault's KV engine, version 2; write for example vault:secret/verdict/ci#token")
	}
	return Reference{source: Vault, mount: mount, name: name, field: field}, nil
}

// Source is where it stands.
func (r Reference) Source() Source { return r.source }

// String gives the reference, and Redacted for an inline secret.
func (r Reference) String() string {
	switch r.source {
	case Environment, File:
		return string(r.source) + ":" + r.name
	case Vault:
		return "vault:" + r.mount + "/" + r.name + "#" + r.field
	case Inline:
		return Redacted
	}
	return ""
}

// GoString keeps an inline secret out of %#v.
func (r Reference) GoString() string { return r.String() }
