// Package servertest lets a test binary stand in for verdict and for OPA: it
// understands enough of both command lines to be started and measured.
package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
)

// Mode names the environment variable that makes the test binary a server:
// "right" gives OPA's answers, "wrong" always true, "dies" exits at once.
const Mode = "BENCH_FAKE"

// Token is what the stand-in prints for `token create`.
const Token = "fake-token"

// Main is to be called by TestMain.
func Main(m *testing.M) {
	mode := os.Getenv(Mode)
	if mode == "" {
		os.Exit(m.Run())
	}
	if err := run(mode, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(mode string, args []string) error {
	if slices.Contains(args, "create") {
		fmt.Println(Token)
		return nil
	}
	if mode == "dies" {
		return errors.New("the stand-in dies")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	answer := func(context.Context, map[string]any) (any, error) { return true, nil }
	if bundle := after(args, "--bundle"); bundle != "" && mode == "right" {
		query, err := rego.New(rego.LoadBundle(bundle), rego.Query("data.authz.allow")).PrepareForEval(ctx)
		if err != nil {
			return err
		}
		answer = func(ctx context.Context, input map[string]any) (any, error) {
			rs, err := query.Eval(ctx, rego.EvalInput(input))
			if err != nil || len(rs) == 0 {
				return nil, err
			}
			return rs[0].Expressions[0].Value, nil
		}
	}
	srv := &http.Server{Addr: after(args, "-a") + after(args, "--addr"), Handler: handler(answer)}
	// Ends when the signal has come and the server is closed.
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// after returns the argument behind a flag.
func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func handler(answer func(context.Context, map[string]any) (any, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "# TYPE go_memstats_next_gc_bytes gauge\ngo_memstats_next_gc_bytes 1.1e+06\n")
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"runtime":{"gc_percent":300}}`)
	})
	mux.HandleFunc("POST /v1/data/authz/allow", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Input map[string]any }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		result, err := answer(r.Context(), q.Input)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"result": result})
	})
	return mux
}
