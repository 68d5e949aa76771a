package main_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// canaries are secrets and plaintexts by name. Each is long and by chance, so
// that finding one anywhere is no accident.
type canaries map[string][]byte

// add makes a text that nothing else has, and gives it.
func (c canaries) add(name string) string {
	text := "canary" + rand.Text()
	c[name] = []byte(text)
	return text
}

// addKey notes a private key in PEM by each whole line, as a copy of it would
// have.
func (c canaries) addKey(t *testing.T, name, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s has no key", file)
	}
	c[name] = block.Bytes[len(block.Bytes)/3 : len(block.Bytes)/3+32] // past what all keys have in common
}

// forms are how a canary may look: as it is, in hexadecimal, and in base64 at
// each of the three places that it may begin at.
func forms(canary []byte) [][]byte {
	list := [][]byte{
		canary, []byte(hex.EncodeToString(canary)), []byte(strings.ToUpper(hex.EncodeToString(canary))),
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before, skipped := range []int{0, 2, 3} { // characters that hold a bit of what stands before
			encoded := e.EncodeToString(append(make([]byte, before), canary...))
			list = append(list, []byte(encoded[skipped:len(encoded)-2]))
		}
	}
	return list
}

// found gives the names of those that are in a text, in whatever form.
func (c canaries) found(text []byte) (names []string) {
	for name, canary := range c {
		if slices.ContainsFunc(forms(canary), func(form []byte) bool { return bytes.Contains(text, form) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// search reports those that are in a text.
func (c canaries) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, name := range c.found(text) {
		t.Errorf("%s: %s is there", where, name)
	}
}

// searchFolder searches every file below a folder, and gives how many there
// were. own names the canary that a file is there to hold.
func (c canaries) searchFolder(t *testing.T, dir string, own map[string]string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for _, name := range c.found(text) {
			if own[d.Name()] != name {
				t.Errorf("%s: %s is there", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// What searches finds a canary in every form.
func TestCanariesAreFound(t *testing.T) {
	c := canaries{}
	text := c.add("one")
	c.add("two")
	dir := t.TempDir()
	for name, leak := range map[string]string{
		"plain": "x" + text + "y", "hex": hex.EncodeToString([]byte("ab" + text)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(text))),
		"base64": base64.StdEncoding.EncodeToString([]byte(text)), "url": base64.URLEncoding.EncodeToString([]byte("?" + text + "??")),
		"basic": base64.StdEncoding.EncodeToString([]byte("u:" + text)), "binary": "\x00\xff" + text + "\x00",
	} {
		if got := c.found([]byte(leak)); !slices.Equal(got, []string{"one"}) {
			t.Errorf("%s: found %v", name, got)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(leak), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.found([]byte("canary and nothing else")); got != nil {
		t.Errorf("found %v where there is none", got)
	}
	own := map[string]string{"plain": "one", "hex": "one", "HEX": "one", "base64": "one", "url": "one", "basic": "one", "binary": "one"}
	if n := c.searchFolder(t, dir, own); n != len(own) {
		t.Errorf("%d files", n)
	}
}
