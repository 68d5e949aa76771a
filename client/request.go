package client

// Entity is a subject or a resource: what it is, which one, and what is known
// about it (AuthZEN Authorization API 1.0, sections 5.1 and 5.3).
type Entity struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Properties map[string]any `json:"properties,omitempty"`
}

// Action is what the subject wants to do (section 5.2).
type Action struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties,omitempty"`
}

// Request is one question: may this subject do this to this resource, under these
// circumstances? Context holds facts about the moment, for the standard policies
// session, device, location, network, time and policy (docs/policies.md). A fact
// that is left out is unknown, and what is unknown never helps the subject.
type Request struct {
	Subject  Entity         `json:"subject"`
	Action   Action         `json:"action"`
	Resource Entity         `json:"resource"`
	Context  map[string]any `json:"context,omitempty"`
}
