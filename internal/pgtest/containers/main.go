// Command containers runs the tests that depend most on PostgreSQL itself, those of the log, the projector and the
// write side, against postgres:18 in a container. Arguments are passed on to go test, before the packages.
//
// Where no Docker engine answers it says that the tests were skipped, and succeeds.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", to ask whether the server is ready
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	image        = "postgres:18"
	port         = "5432/tcp"
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

var packages = []string{"./internal/eventstore/...", "./internal/projector/...", "./internal/command/..."}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "containers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if err := checkEngine(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "SKIPPED: no Docker engine answers, so the tests were NOT run on %s (%v)\n", image, err)
		return nil
	}
	container, err := testcontainers.Run(ctx, image,
		testcontainers.WithExposedPorts(port),
		testcontainers.WithEnv(map[string]string{"POSTGRES_PASSWORD": "passbook"}),
		testcontainers.WithCmd("postgres", "-c", "max_connections=300", "-c", "fsync=off", "-c", "full_page_writes=off"),
		testcontainers.WithWaitStrategyAndDeadline(startTimeout, wait.ForSQL(port, "pgx", databaseURL)))
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, testcontainers.TerminateContainer(container, testcontainers.StopContext(stopCtx)))
	}()
	if err != nil {
		return err
	}
	host, err := container.Host(ctx)
	if err != nil {
		return err
	}
	mapped, err := container.MappedPort(ctx, port)
	if err != nil {
		return err
	}

	// -count=1: a result that was cached came from another server.
	args = append([]string{"test", "-race", "-count=1", "-timeout=10m"}, append(args, packages...)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "TEST_DATABASE_URL="+databaseURL(host, mapped))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// An interrupt must reach the tests first, and the container only once they are done.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeout
	fmt.Fprintf(os.Stderr, "running on %s: %s\n", image, cmd)
	return cmd.Run()
}

func databaseURL(host string, port network.Port) string {
	return fmt.Sprintf("postgres://postgres:passbook@%s:%d/postgres?sslmode=disable", host, port.Num())
}

// checkEngine tells whether a Docker engine answers. Testcontainers panics on some of the ways in which none can.
func checkEngine(ctx context.Context) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	provider, err := testcontainers.ProviderDefault.GetProvider()
	if err != nil {
		return err
	}
	return errors.Join(provider.Health(ctx), provider.Close())
}
