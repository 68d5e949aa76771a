package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of every command; audit verify has more of its own.
const (
	exitOK      = 0 // done, or the answer is yes
	exitFailure = 1 // it failed, or the answer is no
	exitUsage   = 2 // the command line or configuration is wrong, or the question could not be answered
)

// process is what a command has of the world.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	now            func() time.Time
}

// newProcess gives the world as the operating system has it.
func newProcess() *process {
	return &process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), now: time.Now}
}

// exitError is an error that ends the process with its code. An error of
// another kind ends it with exitFailure, or with exitUsage when it arose
// before the command ran.
type exitError struct {
	code int
	err  error // nil: everything has been said
}

// withExit gives err the exit code. A nil err prints nothing.
func withExit(code int, err error) error { return &exitError{code: code, err: err} }

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run runs the command that args name and gives the exit code. The first
// interrupt or termination signal ends the command's context; the second one
// ends the process.
func run(p *process, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	started := false
	root := newRootCmd(p)
	markStart(root, &started)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.err != nil {
			fmt.Fprintf(p.stderr, "verdict: %v\n", exit.err)
		}
		return exit.code
	}
	fmt.Fprintf(p.stderr, "verdict: %v\n", err)
	if !started {
		fmt.Fprintf(p.stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	if _, ok := errors.AsType[Problems](err); ok {
		return exitUsage
	}
	return exitFailure
}

// markStart makes every command below cmd note that it has begun, so that an
// error before is known to be one of usage.
func markStart(cmd *cobra.Command, started *bool) {
	if body := cmd.RunE; body != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return body(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		markStart(sub, started)
	}
}

// newRootCmd gives the tree of commands.
func newRootCmd(p *process) *cobra.Command {
	root := newGroup("verdict", "A zero-trust policy decision point")
	root.Long = `verdict answers whether a subject may do an action on a resource, by evaluating
Rego, and records every answer in a tamper-evident log before it gives it.`
	root.Example = `  verdict serve --dev
  verdict decide --bundle ./policy --path app/allow --input request.json
  verdict audit verify --data-dir ./data`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.AddCommand(
		newServeCmd(p),
		newDecideCmd(p),
		newBundleCmd(p),
		newAuditCmd(p),
		newTokenCmd(p),
		newKeysCmd(p),
		newConfigCmd(p),
		newVersionCmd(p),
		newCompletionCmd(p),
	)
	addExitCodes(root, root.HelpTemplate())
	return root
}

// newGroup gives a command that only holds others. Run by itself, or with
// the name of a command that it does not hold, it is an error of usage.
func newGroup(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			var names []string
			for _, sub := range cmd.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name())
				}
			}
			if len(args) == 0 {
				return fmt.Errorf("%s needs a command: one of %q", cmd.CommandPath(), names)
			}
			return fmt.Errorf("%s has no command %q; the nearest is %q", cmd.CommandPath(), args[0], nearest(args[0], names))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args has refused already
	}
}

// exitCodesKey is the annotation of a command with exit codes of its own.
const exitCodesKey = "exit codes"

const defaultExitCodes = `0  done, or the answer is yes
1  it failed, or the answer is no
2  the command line or configuration is wrong, or the question could not be answered`

// addExitCodes puts the exit codes into the help of cmd and all below it;
// template is cobra's own.
func addExitCodes(cmd *cobra.Command, template string) {
	cmd.SetHelpTemplate(template + "\nExit codes:\n" + indent(exitCodesOf(cmd)) + "\n")
	for _, sub := range cmd.Commands() {
		addExitCodes(sub, template)
	}
}

// exitCodesOf gives the exit codes of cmd, one a line.
func exitCodesOf(cmd *cobra.Command) string {
	if own, ok := cmd.Annotations[exitCodesKey]; ok {
		return own
	}
	return defaultExitCodes
}
