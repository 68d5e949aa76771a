package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/keys"
)

// RunServer runs a server on a data folder whose clock stands at a time, until
// use returns.
func RunServer(t testing.TB, dir string, at time.Time, use func(*keys.Ring)) {
	t.Helper()
	c, _, err := Load([]string{"--dev", "--data-dir", dir, "--addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{stdout: io.Discard, stderr: io.Discard, now: func() time.Time { return at }}
	a, err := newApp(c, p, zerolog.Nop(), runtimeSettings{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := a.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, nil, nil) }() // ended below
	use(a.keys.Ring)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
