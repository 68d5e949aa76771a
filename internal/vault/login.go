package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

// Method is how the client logs in.
type Method string

// The methods.
const (
	Token       Method = "token"
	AppRole     Method = "approle"
	Kubernetes  Method = "kubernetes"
	JWT         Method = "jwt"
	Certificate Method = "cert"
)

// Auth says how to log in. Every file is read again at each login.
type Auth struct {
	Method Method
	// Mount is where the method is mounted; empty: at its own name.
	Mount string
	// Role is the role to log in as: required for Kubernetes, else the
	// server's default.
	Role string
	// TokenFile has the token (Token).
	TokenFile string
	// RoleIDFile and SecretIDFile have an AppRole's ids; without the second
	// file the role must not ask for a secret id.
	RoleIDFile, SecretIDFile string
	// SecretIDWrapped says that SecretIDFile has a response-wrapping token,
	// which gives the secret id once. The secret id is kept in memory.
	SecretIDWrapped bool
	// JWTFile has the JWT (Kubernetes, JWT).
	JWTFile string
	// CertFile and KeyFile are the client certificate, PEM (Certificate).
	CertFile, KeyFile string
}

// authenticator logs in.
type authenticator struct {
	client *Client
	auth   Auth
	login  string // path

	mu       sync.Mutex
	wrapping string // the wrapping token that gave secretID
	secretID string
}

func newAuthenticator(c *Client, auth Auth) (*authenticator, error) {
	if auth.Mount == "" {
		auth.Mount = string(auth.Method)
	}
	auth.Mount = strings.Trim(auth.Mount, "/")
	required := map[Method][]string{
		Token: {auth.TokenFile}, AppRole: {auth.RoleIDFile}, Kubernetes: {auth.Role, auth.JWTFile},
		JWT: {auth.JWTFile}, Certificate: {auth.CertFile, auth.KeyFile},
	}
	names := map[Method]string{
		Token: "a token file", AppRole: "a role id file", Kubernetes: "a role and a JWT file",
		JWT: "a JWT file", Certificate: "a certificate file and a key file",
	}
	fields, ok := required[auth.Method]
	if !ok {
		return nil, fmt.Errorf("unknown way %q to log in to Vault", auth.Method)
	}
	for _, f := range fields {
		if f == "" {
			return nil, fmt.Errorf("logging in to Vault by %s needs %s", auth.Method, names[auth.Method])
		}
	}
	return &authenticator{client: c, auth: auth, login: "auth/" + auth.Mount + "/login"}, nil
}

// authenticate logs in. The secret's Auth has the token.
func (a *authenticator) authenticate(ctx context.Context) (*api.Secret, error) {
	if a.auth.Method == Token {
		return a.lookUp(ctx)
	}
	body, err := a.credentials(ctx)
	if err != nil {
		return nil, err
	}
	if a.auth.Method == Certificate {
		a.client.transport.CloseIdleConnections() // the certificate is shown at the handshake
	}
	secret, err := a.call(ctx, a.client.anonymous, Call{Operation: "login", Method: Put, Path: a.login}, body)
	if err != nil {
		return nil, denied(err)
	}
	if secret.Auth == nil || secret.Auth.ClientToken == "" {
		return nil, &Error{Kind: Failed, Operation: "login", Err: errors.New("the answer has no token")}
	}
	return secret, nil
}

// credentials are what the method sends.
func (a *authenticator) credentials(ctx context.Context) (map[string]string, error) {
	body := map[string]string{}
	var err error
	switch a.auth.Method {
	case AppRole:
		if body["role_id"], err = readFile(a.auth.RoleIDFile); err != nil {
			return nil, unreadable("role id", err)
		}
		if a.auth.SecretIDFile == "" {
			break
		}
		if body["secret_id"], err = a.readSecretID(ctx); err != nil {
			return nil, err
		}
	case Kubernetes, JWT:
		if body["jwt"], err = readFile(a.auth.JWTFile); err != nil {
			return nil, unreadable("JWT", err)
		}
		if a.auth.Role != "" {
			body["role"] = a.auth.Role
		}
	case Certificate:
		if a.auth.Role != "" {
			body["name"] = a.auth.Role
		}
	}
	return body, nil
}

// readSecretID gives the secret id, unwrapped when it comes in a wrapping.
func (a *authenticator) readSecretID(ctx context.Context) (string, error) {
	text, err := readFile(a.auth.SecretIDFile)
	if err != nil {
		return "", unreadable("secret id", err)
	}
	if !a.auth.SecretIDWrapped {
		return text, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if text == a.wrapping {
		return a.secretID, nil
	}
	secret, err := a.unwrap(ctx, text)
	if err != nil {
		return "", err
	}
	id, _ := secret.Data["secret_id"].(string)
	if id == "" {
		return "", &Error{Kind: Denied, Operation: "unwrap", Err: errors.New("what was wrapped is no secret id")}
	}
	a.wrapping, a.secretID = text, id
	return id, nil
}

// unwrap looks where a wrapping came from before it opens it: somebody who
// opened the real one could have put another in its place.
func (a *authenticator) unwrap(ctx context.Context, token string) (*api.Secret, error) {
	wrapping, err := a.call(ctx, a.client.anonymous, Call{Operation: "unwrap", Method: Put, Path: "sys/wrapping/lookup"}, map[string]string{"token": token})
	if err != nil {
		return nil, used(err)
	}
	path, _ := wrapping.Data["creation_path"].(string)
	role, ok := strings.CutPrefix(path, "auth/"+a.auth.Mount+"/role/")
	role, found := strings.CutSuffix(role, "/secret-id")
	if !ok || !found || role == "" || strings.Contains(role, "/") {
		return nil, &Error{Kind: Denied, Operation: "unwrap", Err: errors.New("the wrapping was not made by the AppRole's secret-id path; it may have been replaced")}
	}
	client, err := a.client.newAPI(token)
	if err != nil {
		return nil, err
	}
	secret, err := a.call(ctx, client, Call{Operation: "unwrap", Method: Put, Path: "sys/wrapping/unwrap"}, map[string]string{})
	if err != nil {
		return nil, used(err)
	}
	return secret, nil
}

// used says what it means when a wrapping cannot be opened.
func used(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != Refused && e.Kind != Denied && e.Kind != NotFound {
		return err
	}
	return &Error{Kind: Denied, Operation: "unwrap", Status: e.Status, Err: errors.New("the wrapping of the secret id has ended or was opened by somebody else; look into it, and deliver a new one")}
}

// lookUp takes the token out of its file and asks Vault about it.
func (a *authenticator) lookUp(ctx context.Context) (*api.Secret, error) {
	token, err := readFile(a.auth.TokenFile)
	if err != nil {
		return nil, unreadable("token", err)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &Error{Kind: Denied, Operation: "login", Err: fmt.Errorf("%s holds no token", a.auth.TokenFile)}
	}
	client, err := a.client.newAPI(token)
	if err != nil {
		return nil, err
	}
	secret, err := a.call(ctx, client, Call{Operation: "login", Path: "auth/token/lookup-self"}, nil)
	if err != nil {
		return nil, denied(err)
	}
	var data struct {
		TTL       int  `json:"ttl"`
		Renewable bool `json:"renewable"`
	}
	if err := remarshal(secret.Data, &data); err != nil {
		return nil, &Error{Kind: Failed, Operation: "login", Err: err}
	}
	secret.Auth = &api.SecretAuth{ClientToken: token, LeaseDuration: data.TTL, Renewable: data.Renewable}
	return secret, nil
}

// call makes one call of a login.
func (a *authenticator) call(ctx context.Context, client *api.Client, call Call, body map[string]string) (*api.Secret, error) {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	started := a.client.o.Now()
	resp, err := send(ctx, client, call, encoded)
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close()
	}
	if err == nil && resp.StatusCode/100 == 3 {
		err = errors.New("sent to another host")
	}
	var secret *api.Secret
	var e *Error
	if err == nil {
		if secret, err = decodeSecret(resp); err != nil {
			e = &Error{Kind: Failed, Operation: call.Operation, Err: bare(err)}
		}
	} else {
		e = failure(ctx, call.Operation, resp, err)
	}
	a.client.metrics.observe(call.Operation, KindOf(asError(e)), a.client.o.Now().Sub(started))
	return secret, asError(e)
}

// denied takes a login that was refused for what it is, whatever the status:
// Vault answers 400 to a wrong secret id, and 404 where nothing is mounted.
func denied(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && !e.Unavailable() {
		changed := *e
		changed.Kind = Denied
		return &changed
	}
	return err
}

func unreadable(what string, err error) error {
	return &Error{Kind: Denied, Operation: "login", Err: fmt.Errorf("read %s: %w", what, err)}
}

// remarshal gives what the library decoded loosely a type.
func remarshal(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}
