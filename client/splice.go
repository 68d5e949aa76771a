package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// splice replaces the values of a JSON text at some pointers.
func splice(text []byte, with map[string]json.RawMessage) ([]byte, error) {
	if len(with) == 0 {
		return text, nil
	}
	return (&splicer{text: text, with: with}).run()
}

// splicer goes over a JSON text once.
type splicer struct {
	text []byte
	with map[string]json.RawMessage // what comes in place of values; nil: nothing
	seen map[string]json.RawMessage // values at the pointers that it has are put in; nil: none

	folded  map[string]bool // pointers of seen, as encoding/json compares names
	decoder *json.Decoder
	out     bytes.Buffer
	at      int64 // how far the text is written
}

func (s *splicer) run() ([]byte, error) {
	s.decoder = json.NewDecoder(bytes.NewReader(s.text))
	s.decoder.UseNumber()
	s.folded = map[string]bool{}
	for pointer := range s.seen {
		s.folded[fold(pointer)] = true
	}
	if err := s.value(""); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	s.out.Write(s.text[s.at:])
	return s.out.Bytes(), nil
}

func (s *splicer) value(pointer string) error {
	replacement, replaced := s.with[pointer]
	_, wanted := s.seen[pointer]
	if !wanted && s.folded[fold(pointer)] {
		// encoding/json would read it into the same field.
		return fmt.Errorf("%s stands beside a field whose name differs in case only: %w", pointer, ErrUnsealed)
	}
	if replaced || wanted {
		var raw json.RawMessage
		if err := s.decoder.Decode(&raw); err != nil {
			return err
		}
		if wanted {
			s.seen[pointer] = raw
			return nil
		}
		end := s.decoder.InputOffset()
		s.out.Write(s.text[s.at : end-int64(len(raw))])
		s.out.Write(replacement)
		s.at = end
		return nil
	}
	token, err := s.decoder.Token()
	delim, ok := token.(json.Delim)
	if err != nil || !ok {
		return err
	}
	for i := 0; s.decoder.More(); i++ {
		name := strconv.Itoa(i)
		if delim == '{' {
			key, err := s.decoder.Token()
			if err != nil {
				return err
			}
			name, _ = key.(string)
		}
		if err := s.value((spot{pointer: pointer}).below(name, "").pointer); err != nil {
			return err
		}
	}
	_, err = s.decoder.Token()
	return err
}

// fold makes texts equal that encoding/json takes for the same name.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }
