package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
)

// maxReencryptLine is the longest line: a ciphertext and what stands beside it.
const maxReencryptLine = keys.MaxText + 1<<20

// countLines counts the lines that hold a value.
func countLines(in io.Reader) (n int64, err error) {
	r := bufio.NewReaderSize(in, 1<<16)
	for {
		line, err := readLine(r)
		if len(bytes.TrimSpace(line)) > 0 {
			n++
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// readLine reads a line with its end, which the last may lack.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxReencryptLine {
			return nil, fmt.Errorf("a line has more than %d bytes", maxReencryptLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// sealedLine is a line of the file; value is nil in an empty one.
type sealedLine struct {
	text  []byte
	value *reencryptItem
	node  *jsondoc.Node // the ciphertext in a line of JSON
	root  *jsondoc.Node
}

type reencryptItem struct {
	Ciphertext string          `json:"ciphertext"`
	Context    json.RawMessage `json:"context,omitempty"`
}

// parse reads a line.
func (w *reencryption) parse(text []byte) (sealedLine, error) {
	l := sealedLine{text: text}
	trimmed := bytes.TrimSpace(text)
	switch {
	case len(trimmed) == 0:
		return l, nil
	case bytes.HasPrefix(trimmed, []byte(keys.Prefix)):
		c, err := json.Marshal(w.context)
		l.value = &reencryptItem{Ciphertext: string(trimmed), Context: c}
		return l, err
	}
	root, err := jsondoc.Parse(trimmed, jsondoc.Limits{})
	if err != nil {
		return l, err
	}
	l.root, l.node = root, root.Member("ciphertext")
	if l.node == nil {
		return l, errors.New("there is no member ciphertext")
	}
	l.value = &reencryptItem{}
	ok := false
	if l.value.Ciphertext, ok = l.node.Text(); !ok {
		return l, errors.New("ciphertext is no string")
	}
	if c := root.Member("context"); c != nil {
		l.value.Context = c.Raw()
	}
	return l, nil
}

// renewed is the line with its new ciphertext.
func (l *sealedLine) renewed(ciphertext string) []byte {
	if l.root == nil {
		return []byte(ciphertext + "\n")
	}
	line := l.root.Replace([]jsondoc.Edit{{Node: l.node, With: []byte(`"` + ciphertext + `"`)}})
	return append(line, '\n')
}
