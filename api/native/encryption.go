package native

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

func (s *Server) mountEncryption(r chi.Router, require Require) {
	post := func(pattern string, class api.Class, h http.HandlerFunc) {
		r.With(require(api.Route{Class: class, Handler: "api/v1"})).Post(pattern, h)
	}
	post("/api/v1/encrypt", api.ClassEncrypt, s.encrypt)
	post("/api/v1/decrypt", api.ClassDecrypt, s.decrypt)
	post("/api/v1/reencrypt", api.ClassReencrypt, s.reencrypt)
	if s.o.Jobs != nil {
		s.mountJobs(r, require)
	}
}

// cryptoBody reads the body of a request and lets fn answer. What it holds is
// overwritten afterwards.
func (s *Server) cryptoBody(w http.ResponseWriter, r *http.Request, fn func(*cryptoAsk) error) {
	w.Header().Set("Cache-Control", "no-store")
	body, err := io.ReadAll(r.Body)
	defer func() { clear(body) }()
	if err != nil {
		api.WriteProblem(w, r, api.AsError(err))
		return
	}
	limits := s.limits.Load()
	ask, err := readCrypto(body, limits.Depth)
	if err == nil {
		ask.asker, ask.size, ask.limit = askerOf(r, ask), len(body), limits.Crypto
		err = fn(ask)
	}
	if err != nil {
		s.cryptoError(w, r, err)
	}
}

// fieldAnswer tells of a field that was encrypted or opened.
type fieldAnswer struct {
	Pointer        string `json:"pointer"`
	Classification string `json:"classification"`
}

// documentAnswer is what an answer tells beside the document.
type documentAnswer struct {
	DecisionID string        `json:"decision_id,omitempty"`
	Fields     []fieldAnswer `json:"fields"`
}

// valueAnswer is the answer for one value, or an item of a batch.
type valueAnswer struct {
	DecisionID      string      `json:"decision_id,omitempty"`
	Ciphertext      string      `json:"ciphertext,omitempty"`
	Plaintext       *string     `json:"plaintext,omitempty"`
	PlaintextBase64 *string     `json:"plaintext_base64,omitempty"`
	Classification  string      `json:"classification,omitempty"`
	KeyID           string      `json:"key_id,omitempty"`
	KeyVersion      uint32      `json:"key_version,omitempty"`
	Error           *valueError `json:"error,omitempty"`
	Job             *jobAnswer  `json:"job,omitempty"`
}

// valueError is what is wrong with one item of a batch.
type valueError struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

type itemsAnswer struct {
	DecisionID string        `json:"decision_id,omitempty"`
	Items      []valueAnswer `json:"items"`
	Job        *jobAnswer    `json:"job,omitempty"`
}

// encrypt answers POST /api/v1/encrypt.
func (s *Server) encrypt(w http.ResponseWriter, r *http.Request) {
	s.cryptoBody(w, r, func(ask *cryptoAsk) error {
		if ask.document != nil {
			d, err := ask.sealing()
			if err != nil {
				return err
			}
			result, err := s.o.Encryption.Seal(r.Context(), ask.asker, d)
			if err == nil {
				err = ask.opensDocument(result.Document)
			}
			return s.answerDocument(w, result, err)
		}
		values, err := ask.values()
		if err != nil {
			return err
		}
		results, err := s.o.Encryption.Encrypt(r.Context(), ask.asker, values)
		if err != nil {
			return err
		}
		return s.answerValues(w, ask, "", len(results), func(i int) (valueAnswer, error) {
			if err := ask.opens(i, results[i].Text); err != nil {
				return valueAnswer{}, err
			}
			return encrypted(&results[i])
		})
	})
}

func encrypted(e *keys.Encrypted) (valueAnswer, error) {
	if e.Err != nil {
		return valueAnswer{}, e.Err
	}
	return valueAnswer{Ciphertext: e.Text, KeyID: e.KeyID, KeyVersion: e.Version}, nil
}

// decrypt answers POST /api/v1/decrypt.
func (s *Server) decrypt(w http.ResponseWriter, r *http.Request) {
	s.cryptoBody(w, r, func(ask *cryptoAsk) error {
		if ask.document != nil {
			d, err := ask.opening()
			if err != nil {
				return err
			}
			result, err := s.o.Encryption.Open(r.Context(), ask.asker, d)
			return s.answerDocument(w, result, err)
		}
		items, err := ask.ciphertexts()
		if err != nil {
			return err
		}
		opened, err := s.o.Encryption.Decrypt(r.Context(), ask.asker, items)
		if err != nil {
			return err
		}
		return s.answerValues(w, ask, opened.DecisionID, len(items), func(i int) (valueAnswer, error) { return decrypted(&opened.Results[i]) })
	})
}

func decrypted(d *keys.Decrypted) (valueAnswer, error) {
	if d.Err != nil {
		return valueAnswer{}, d.Err
	}
	a := valueAnswer{Classification: d.Class.String()}
	if utf8.Valid(d.Data) {
		text := string(d.Data)
		a.Plaintext = &text
	} else {
		text := base64.StdEncoding.EncodeToString(d.Data)
		a.PlaintextBase64 = &text
	}
	clear(d.Data)
	return a, nil
}

// reencrypt answers POST /api/v1/reencrypt.
func (s *Server) reencrypt(w http.ResponseWriter, r *http.Request) {
	s.cryptoBody(w, r, func(ask *cryptoAsk) error {
		items, err := ask.reencryptions()
		if err != nil {
			return err
		}
		if job, number, err := ask.readJob(); err != nil || job != "" {
			if err != nil {
				return err
			}
			return s.reencryptJob(w, r, ask, job, number)
		}
		done, err := s.o.Encryption.Reencrypt(r.Context(), ask.asker, items)
		if err != nil {
			return err
		}
		return s.answerValues(w, ask, done.DecisionID, len(items), func(i int) (valueAnswer, error) { return encrypted(&done.Results[i]) })
	})
}

func (s *Server) answerDocument(w http.ResponseWriter, result *service.Result, err error) error {
	if err != nil {
		return err
	}
	a := documentAnswer{DecisionID: result.DecisionID, Fields: make([]fieldAnswer, len(result.Fields))}
	for i, f := range result.Fields {
		a.Fields[i] = fieldAnswer{f.Pointer, f.Class.String()}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	// The document stands in the answer byte for byte, which a member that is
	// marshalled would not.
	body = append(body[:len(body)-1], `,"document":`...)
	body = append(append(body, result.Document...), "}\n"...)
	setDecision(w, result.DecisionID)
	writeJSON(w, body)
	return nil
}

// answerValues answers one value, or each item of a batch. A batch whose items
// all failed because keys cannot be used now is unavailable as a whole.
func (s *Server) answerValues(w http.ResponseWriter, ask *cryptoAsk, decision string, n int, at func(int) (valueAnswer, error)) error {
	setDecision(w, decision)
	if !ask.batch {
		a, err := at(0)
		if err != nil {
			return err
		}
		a.DecisionID, a.Job = decision, ask.job
		s.reply(w, a)
		return nil
	}
	answer := itemsAnswer{DecisionID: decision, Items: make([]valueAnswer, n), Job: ask.job}
	unavailable := 0
	var last error
	for i := range n {
		a, err := at(i)
		if err != nil {
			if errors.Is(err, keys.ErrUnavailable) {
				unavailable, last = unavailable+1, err
			}
			a.Error = s.valueError(err)
		}
		answer.Items[i] = a
	}
	if unavailable > 0 && unavailable == n {
		return last
	}
	s.reply(w, answer)
	return nil
}

func setDecision(w http.ResponseWriter, id string) {
	if id != "" {
		w.Header().Set("X-Decision-Id", id)
	}
}
