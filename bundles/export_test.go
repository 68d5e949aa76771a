package bundles

import (
	"bytes"
	"os"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// SetFault calls fn at each durable step; its error ends the step there, as a
// crash would.
func (s *Service) SetFault(fn func(point string) error) { s.fault = fn }

// ReadPacked reads a tarball as a push does, by way of a file.
func ReadPacked(name string, packed []byte, file string) (*eval.Bundle, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := receive(bytes.NewReader(packed), f, Limits{}.withDefaults())
	if err != nil {
		return nil, err
	}
	m, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	c, err := read(name, a, m, nil)
	if err != nil {
		return nil, err
	}
	return c.bundle, nil
}

// File is where the archive lies.
func (a *Archive) File() string { return a.file }
