package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/verdict-pdp/verdict/keys"
)

// errNotVerified is the error of a value that did not come back as it was.
var errNotVerified = errors.New("not_verified")

// remoteRing encrypts by a server, and has it decrypt what it encrypted, to
// compare.
type remoteRing struct{ server *remote }

// remoteValue is a value in a request to encrypt or decrypt.
type remoteValue struct {
	Classification string       `json:"classification,omitempty"`
	Plaintext      []byte       `json:"plaintext_base64,omitempty"`
	Ciphertext     string       `json:"ciphertext,omitempty"`
	Context        keys.Context `json:"context"`
}

// remoteResult is a value in an answer.
type remoteResult struct {
	Ciphertext string  `json:"ciphertext"`
	KeyID      string  `json:"key_id"`
	KeyVersion uint32  `json:"key_version"`
	Plaintext  *string `json:"plaintext"`
	Bytes      []byte  `json:"plaintext_base64"`
	Error      *struct {
		Code string `json:"code"`
	} `json:"error"`
}

func (r *remoteResult) err() error {
	if r.Error == nil {
		return nil
	}
	for _, known := range []error{
		keys.ErrMalformed, keys.ErrKeyUnknown, keys.ErrVersionDisallowed, keys.ErrInvalid, keys.ErrNotEncrypted, keys.ErrTooLarge, keys.ErrUnavailable,
	} {
		if known.Error() == r.Error.Code {
			return known
		}
	}
	return fmt.Errorf("the server answered %s", plain(r.Error.Code))
}

// Encrypt implements legacy.Ring. A value has errNotVerified when it did not
// come back as it was.
func (r remoteRing) Encrypt(ctx context.Context, _ keys.By, values []keys.Value) ([]keys.Encrypted, error) {
	if len(values) == 0 {
		return nil, nil
	}
	ask := make([]remoteValue, len(values))
	for i, v := range values {
		ask[i] = remoteValue{Classification: v.Class.String(), Plaintext: v.Data, Context: v.Context}
		if len(v.Data) == 0 {
			ask[i].Plaintext = []byte{}
		}
	}
	answers, err := r.ask(ctx, "encrypt", ask)
	if err != nil {
		return nil, err
	}
	results := make([]keys.Encrypted, len(values))
	var check []remoteValue
	var at []int
	for i := range answers {
		a := &answers[i]
		if results[i].Err = a.err(); results[i].Err == nil {
			results[i] = keys.Encrypted{Text: a.Ciphertext, KeyID: a.KeyID, Version: a.KeyVersion}
			check, at = append(check, remoteValue{Ciphertext: a.Ciphertext, Context: values[i].Context}), append(at, i)
		}
	}
	if len(check) == 0 {
		return results, nil
	}
	opened, err := r.ask(ctx, "decrypt", check)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		data := opened[n].Bytes
		if opened[n].Plaintext != nil {
			data = []byte(*opened[n].Plaintext)
		}
		if opened[n].err() != nil || !bytes.Equal(data, values[i].Data) {
			results[i] = keys.Encrypted{Err: errNotVerified}
		}
	}
	return results, nil
}

// ask posts values and gives one result for each.
func (r remoteRing) ask(ctx context.Context, operation string, values []remoteValue) ([]remoteResult, error) {
	items := make([]map[string]any, len(values))
	for i, v := range values {
		items[i] = map[string]any{"context": v.Context}
		if v.Plaintext != nil {
			items[i]["classification"], items[i]["plaintext_base64"] = v.Classification, base64.StdEncoding.EncodeToString(v.Plaintext)
		} else {
			items[i]["ciphertext"] = v.Ciphertext
		}
	}
	raw, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		return nil, fmt.Errorf("encode question: %w", err)
	}
	defer clear(raw)
	body, err := r.server.ask(ctx, question{
		method: http.MethodPost, path: []string{operation}, header: map[string]string{"Content-Type": "application/json"},
		body: bytes.NewReader(raw), size: int64(len(raw)),
	})
	if err != nil {
		return nil, err
	}
	defer clear(body)
	answer, err := decodeAnswer(body, func(v *struct {
		Items []remoteResult `json:"items"`
	},
	) bool {
		return len(v.Items) == len(values)
	})
	if err != nil {
		return nil, err
	}
	return answer.Items, nil
}
