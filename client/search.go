package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// defaultPage is how many results a page of a search has.
const defaultPage = 500

// Search says how a search is asked. The zero value is usable.
type Search struct {
	// Page is how many results are fetched at a time; 0: 500.
	Page int
}

// Match is a subject or a resource that a search has found. Obligations are those
// of its decision.
type Match struct {
	Entity
	Obligations []Obligation `json:"obligations"`
}

// ActionMatch is an action that a search has found.
type ActionMatch struct {
	Action
	Obligations []Obligation `json:"obligations"`
}

// SearchSubjects gives the subjects of type r.Subject.Type that may do the action
// to the resource; r.Subject.ID is not looked at. Pages are fetched as the loop
// goes on. An error is the last thing that is given: what came before it is part
// of the answer only.
func (c *Client) SearchSubjects(ctx context.Context, r Request, s Search) iter.Seq2[Match, error] {
	r.Subject.ID = ""
	return search[Match](ctx, c, "subject", s, r)
}

// SearchResources gives the resources of type r.Resource.Type to which the subject
// may do the action, as SearchSubjects gives subjects.
func (c *Client) SearchResources(ctx context.Context, r Request, s Search) iter.Seq2[Match, error] {
	r.Resource.ID = ""
	return search[Match](ctx, c, "resource", s, r)
}

// SearchActions gives the actions that the subject may do to the resource, as
// SearchSubjects gives subjects; r.Action is not looked at.
func (c *Client) SearchActions(ctx context.Context, r Request, s Search) iter.Seq2[ActionMatch, error] {
	return search[ActionMatch](ctx, c, "action", s, struct {
		Subject  Entity         `json:"subject"`
		Resource Entity         `json:"resource"`
		Context  map[string]any `json:"context,omitempty"`
	}{r.Subject, r.Resource, r.Context})
}

// search walks over all pages of a search.
func search[T any](ctx context.Context, c *Client, kind string, s Search, question any) iter.Seq2[T, error] {
	op := "search " + kind
	return func(yield func(T, error) bool) {
		var none T
		token := ""
		for {
			results, next, err := page[T](ctx, c, op, "/access/v1/search/"+kind, s, question, token)
			if err != nil {
				yield(none, err)
				return
			}
			for _, result := range results {
				if !yield(result, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			if next == token {
				yield(none, &Error{Op: op, Err: errors.New("the same page was given again"), kind: ErrAnswer})
				return
			}
			token = next
		}
	}
}

// page asks for one page.
func page[T any](ctx context.Context, c *Client, op, path string, s Search, question any, token string) (results []T, next string, err error) {
	if s.Page < 0 {
		return nil, "", &Error{Op: op, Err: errors.New("Search.Page must not be negative"), kind: ErrInvalid}
	}
	if s.Page == 0 {
		s.Page = defaultPage
	}
	body, bearer, err := c.question(ctx, op, question)
	if err != nil {
		return nil, "", err
	}
	body = fmt.Appendf(body[:len(body)-1], `,"page":{"limit":%d`, s.Page)
	if token != "" {
		quoted, err := json.Marshal(token)
		if err != nil {
			return nil, "", &Error{Op: op, Err: err, kind: ErrInvalid}
		}
		body = append(append(body, `,"token":`...), quoted...)
	}
	body = append(body, '}', '}')
	a, err := c.ask(ctx, &call{op: op, path: path, body: body, token: bearer})
	if err != nil {
		return nil, "", err
	}
	var found struct {
		Page struct {
			Next string `json:"next_token"`
		} `json:"page"`
		Results *[]T `json:"results"`
	}
	if err := json.Unmarshal(a.body, &found); err != nil {
		return nil, "", a.notUnderstood(op, err)
	}
	if found.Results == nil {
		return nil, "", a.notUnderstood(op, errors.New("it has no results"))
	}
	return *found.Results, found.Page.Next, nil
}
