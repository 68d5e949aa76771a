package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const (
	pathEncrypt = "/api/v1/encrypt"
	pathDecrypt = "/api/v1/decrypt"
)

// The classifications, in ascending order of what they protect. Public values
// are not encrypted.
const (
	Public       = "public"
	Internal     = "internal"
	Confidential = "confidential"
	Restricted   = "restricted"
	TopSecret    = "top_secret"
)

func classified(name string) bool {
	switch name {
	case Public, Internal, Confidential, Restricted, TopSecret:
		return true
	}
	return false
}

// SealContext is where values belong, and who asks for them. Tenant, Type, ID
// and Pointer are bound to a ciphertext, which opens with the same ones only;
// what is left out is bound as empty.
type SealContext struct {
	Tenant string
	Type   string // of the document
	ID     string // of the document
	// Pointer is the JSON Pointer to a single value; Seal and Open have one for
	// each field, and want none here.
	Pointer string

	// Subject on whose behalf values are opened; nil: this service itself. Facts
	// about the moment are session, device, location, network and policy, as
	// Context of a Request has them. They are for the policy that decides about
	// openings.
	Subject *Entity
	Facts   map[string]any
}

// place is the part that is bound.
type place struct {
	Tenant  string `json:"tenant,omitempty"`
	Type    string `json:"type,omitempty"`
	ID      string `json:"id,omitempty"`
	Pointer string `json:"pointer,omitempty"`
}

func (s *SealContext) place() place { return place{s.Tenant, s.Type, s.ID, s.Pointer} }

// Encrypt encrypts a value by its classification. Scope keys:encrypt.
func (c *Client) Encrypt(ctx context.Context, classification string, value []byte, sc SealContext) (string, error) {
	const op = "encrypt"
	if !classified(classification) {
		return "", &Error{Op: op, Err: fmt.Errorf("%q is no classification", classification), kind: ErrInvalid}
	}
	a, err := c.post(ctx, op, pathEncrypt, struct {
		Classification string `json:"classification"`
		Plaintext      string `json:"plaintext_base64"`
		Context        place  `json:"context"`
	}{classification, base64.StdEncoding.EncodeToString(value), sc.place()})
	if err != nil {
		return "", err
	}
	var got struct{ Ciphertext string }
	if err := json.Unmarshal(a.body, &got); err != nil || !strings.HasPrefix(got.Ciphertext, "vd1.") {
		return "", a.notUnderstood(op, errors.New("it holds no ciphertext"))
	}
	return got.Ciphertext, nil
}

// Decrypt opens a value. Scope keys:decrypt; the policy data.verdict.keys
// decides, and a denial is an *Error that is ErrDenied. A ciphertext that does
// not open has the code "ciphertext_invalid", whatever is wrong with it.
func (c *Client) Decrypt(ctx context.Context, ciphertext string, sc SealContext) ([]byte, error) {
	const op = "decrypt"
	a, err := c.post(ctx, op, pathDecrypt, struct {
		Ciphertext string         `json:"ciphertext"`
		Context    place          `json:"context"`
		Subject    *Entity        `json:"subject,omitempty"`
		Facts      map[string]any `json:"facts,omitempty"`
	}{ciphertext, sc.place(), sc.Subject, sc.Facts})
	if err != nil {
		return nil, err
	}
	var got struct {
		Plaintext *string
		Binary    *[]byte `json:"plaintext_base64"`
	}
	switch err := json.Unmarshal(a.body, &got); {
	case err == nil && got.Plaintext != nil:
		return []byte(*got.Plaintext), nil
	case err == nil && got.Binary != nil:
		return *got.Binary, nil
	}
	return nil, a.notUnderstood(op, errors.New("it holds no plaintext"))
}

// post encodes a request and asks.
func (c *Client) post(ctx context.Context, op, path string, v any) (*answer, error) {
	body, token, err := c.question(ctx, op, v)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, &call{op: op, path: path, body: body, token: token})
}
