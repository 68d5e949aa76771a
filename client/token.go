package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// TokenSource gives the bearer token of this service. It is called for every
// request, by many goroutines, and should keep what it has fetched. Its error
// becomes the error of the call.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken is a source of one token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// maxToken bounds a token file, in bytes.
const maxToken = 64 << 10

// TokenFile reads the token from a file, and again whenever the file has
// changed, as that of a projected volume does. White space around it is not part
// of it.
func TokenFile(name string) TokenSource {
	f := &tokenFile{name: name}
	return func(context.Context) (string, error) { return f.token() }
}

type tokenFile struct {
	name string

	mu      sync.Mutex // guards what follows
	read    os.FileInfo
	content string
}

func (f *tokenFile) token() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.name)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if f.read != nil && same(f.read, info) {
		return f.content, nil
	}
	file, err := os.Open(f.name)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	content := strings.TrimSpace(string(raw))
	switch {
	case len(raw) > maxToken:
		return "", errors.New("token file: it is longer than 64 KiB")
	case content == "":
		return "", errors.New("token file: it is empty")
	}
	f.content, f.read = content, info
	if time.Since(info.ModTime()) < settled {
		f.read = nil
	}
	return f.content, nil
}

// settled is how old a change must be before its time is relied on: two changes
// may bear the same one.
const settled = 2 * time.Second

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
