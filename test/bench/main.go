// Command bench measures Passbook relative to what the machine can do at best: figures P1 to P10 of the design, each with a
// baseline from the same run. docs/benchmarks.md explains every line. `make bench` builds and runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run is the whole program. The load generator and the bare handler are this program too, in separate processes.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "load":
			return runLoad(ctx, args[1:], stdout, stderr)
		case "chi":
			return runChi(ctx, args[1:], stderr)
		case "soak":
			return runSoak(ctx, args[1:], getenv, stdout, stderr)
		case "scale":
			return runScale(ctx, args[1:], getenv, stdout, stderr)
		}
	}
	o, err := parse(args, getenv, stderr)
	if err != nil {
		return err
	}
	r, err := measure(ctx, o, stderr)
	if err != nil {
		return err
	}
	return publish(r, o, stdout)
}

// options are the command line.
type options struct {
	only             []string
	rounds           int
	duration         time.Duration
	clients          int
	accounts, events int
	jsonFile, doc    string
	strict           bool
	server, dir      string
	self             string
	pgBin, path      string
}

func parse(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	self, err := os.Executable()
	if err != nil {
		return options{}, err
	}
	o := options{self: self, pgBin: getenv("PG_BIN"), path: getenv("PATH")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("run", "", "what to measure, such as P1,P3; everything when empty (one of "+strings.Join(allIDs(), ", ")+")")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds of each measurement; baseline and subject take turns, and the median counts")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "length of a round")
	flags.IntVar(&o.clients, "clients", 64, "concurrent clients, at most 80")
	flags.IntVar(&o.accounts, "accounts", 1000, "accounts")
	flags.IntVar(&o.events, "events", 10_000_000, "events in the filled log of P5 and P7")
	flags.StringVar(&o.jsonFile, "json", "", "file to write the run to as JSON (- for standard output, in place of the table)")
	flags.StringVar(&o.doc, "doc", "", "Markdown document to put the run into; needs a run of everything")
	flags.BoolVar(&o.strict, "strict", false, "exit with 1 when a must is missed")
	flags.StringVar(&o.server, "server", filepath.Join(filepath.Dir(self), "server"), "the server's binary")
	flags.StringVar(&o.dir, "dir", "", "directory for the databases, on the disk to be measured; the system's temporary one when empty")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *only != "" {
		o.only = strings.Split(strings.ToUpper(*only), ",")
	}
	return o, o.check()
}

func (o *options) check() error {
	switch {
	case o.rounds < 1, o.duration < time.Second:
		return errors.New("at least one round of at least a second is needed")
	case o.clients < 1, o.clients > 80:
		return errors.New("-clients must be 1 to 80: PostgreSQL takes 100 connections, and the server has some of them")
	case o.accounts < 2:
		return errors.New("at least two accounts are needed")
	case o.events < 10*o.accounts:
		return errors.New("-events must be at least ten times -accounts")
	case o.doc != "" && len(o.only) > 0:
		return errors.New("-doc needs a run of everything, or the document would lose figures")
	}
	if _, err := os.Stat(o.server); err != nil {
		return fmt.Errorf("%w: build the server first, or say where it is with -server", err)
	}
	return nil
}

var (
	errFailed = errors.New("some measurements failed; the notes say why")
	errShort  = errors.New("a must is missed, or what it is about is not there")
)

// publish writes the run to the files that the options name.
func publish(r *report.Report, o options, stdout io.Writer) error {
	if o.jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if o.jsonFile == "-" {
			_, err = stdout.Write(text)
		} else {
			err = os.WriteFile(o.jsonFile, text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.jsonFile != "-" {
		if err := r.Text(stdout); err != nil {
			return err
		}
	}
	if o.doc != "" && r.Count(report.Failed) == 0 {
		if err := r.WriteDoc(o.doc); err != nil {
			return err
		}
	}
	switch {
	case r.Count(report.Failed) > 0:
		return errFailed
	case o.strict && r.Missed() > 0:
		return errShort
	}
	return nil
}

// runLoad is the load generator: bench load.
func runLoad(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var c load.Config
	flags.StringVar(&c.Addr, "addr", "127.0.0.1:8080", "the servers' addresses, with commas between them")
	mode := flags.String("mode", string(load.Deposit), "open, touch, deposit, balance, visible, refused, commands or beside")
	flags.IntVar(&c.Conns, "conns", 64, "connections")
	flags.DurationVar(&c.Duration, "duration", 8*time.Second, "length of the window that counts")
	flags.Float64Var(&c.Rate, "rate", 0, "requests a second over all connections; 0 for as fast as responses arrive")
	flags.IntVar(&c.First, "first", 1, "number of the first account")
	flags.IntVar(&c.Accounts, "accounts", 1000, "number of accounts")
	flags.IntVar(&c.Lines, "lines", 10_000, "items in a stream of commands")
	flags.BoolVar(&c.Keys, "keys", false, "give every item of a stream an idempotency key")
	// One processor is enough for the rates that the server reaches, and leaves the other to it.
	procs := flags.Int("procs", 1, "processors the load generator may use at a time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.Mode = load.Mode(*mode)
	runtime.GOMAXPROCS(*procs)
	before := ownCPU()
	r, err := load.Run(ctx, c)
	if err != nil {
		return err
	}
	r.CPUSeconds = ownCPU() - before
	return json.NewEncoder(stdout).Encode(r)
}

// ownCPU returns the processor time that this process has used, in seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
