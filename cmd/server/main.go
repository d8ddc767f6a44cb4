// Command server runs Passbook: the account service, and the commands that operate it. See server --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/google/uuid"

	"passbook/internal/cli"
	"passbook/internal/config"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// Exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitSettings = 2 // the command line or a setting is wrong; nothing was started
)

func main() {
	// The live heap is small, so collecting garbage a third as often costs only a few dozen MiB. GOGC and GOMEMLIMIT override
	// this.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	// Every request and every event gets an id. Ids are not secret, so a pool of randomness saves a system call for each.
	uuid.EnableRandPool()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run runs one command until it is done or ctx ends, and returns the exit code. Settings come from environ, as NAME=value.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := cli.New(config.New(environ, version), version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if _, usage := errors.AsType[config.UsageError](err); usage {
		own := ""
		if cmd != root {
			own = fmt.Sprintf("%q for this command, or ", cmd.CommandPath()+" --help")
		}
		fmt.Fprintf(stderr, "%v\nRun %s\"server --help\" for all commands and settings.\n", err, own)
		return exitSettings
	}
	fmt.Fprintf(stderr, "server: %v\n", err)
	return exitFailed
}
