// Command bench measures verdict beside a real OPA server: same policy, same
// data, same requests with known answers, on the same machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: bench run [flags]      rate, latency and CPU beside OPA
       bench memory [flags]   memory with 50 MB of data beside OPA
       bench activation [flags]  latency while bundles are activated
       bench replay [flags]   time of a replay of 100,000 recorded decisions
       bench profile [flags]  where verdict's time goes (needs perf)

Use "bench COMMAND -h" for the flags. Exit codes: 0 measured, 1 a server gave
wrong answers or the run failed, 2 wrong usage.
`

// errWrong is returned when a server gave at least one wrong answer.
var errWrong = errors.New("there were wrong answers")

func main() {
	// A closed pipe behind the output must not end the program before its
	// servers are stopped either.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp), errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errUsage is returned when the command line is wrong; the reason is printed.
var errUsage = errors.New("wrong usage")

// parse reads the flags of a command, which takes no arguments beside them, and
// has their values checked.
func parse(flags *flag.FlagSet, args []string, check func() error) error {
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	err := check()
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: wrong arguments: %v\n", flags.Name(), err)
		return errUsage
	}
	return nil
}

// atLeast is the error of a flag whose value is too small.
func atLeast(flag string, value, least int) error {
	if value < least {
		return fmt.Errorf("-%s must be at least %d", flag, least)
	}
	return nil
}

func dispatch(ctx context.Context, args []string, out io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "run":
		return runCommand(ctx, args, out)
	case "memory":
		return memoryCommand(ctx, args, out)
	case "activation":
		return activationCommand(ctx, args, out)
	case "replay":
		return replayCommand(ctx, args, out)
	case "profile":
		return profileCommand(ctx, args, out)
	default:
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
}
