// Command failover deposits through several instances of Passbook while their database fails over, and then compares the
// acknowledged deposits with the log. See deploy/ha/run, which starts it.
//
//	DATABASE_URL=… failover [-clients N] URL...
//
// Each line on standard input marks a moment, such as a killed leader; the end of the input ends the load. It prints
// figures, and exits 1 if an acknowledged deposit is not in the log exactly once, if an unacknowledged one is in it twice, if
// positions have gaps, if a read failed, or if writes were unavailable for longer than -away after a mark.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv("DATABASE_URL"), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// marks are the moments named on standard input.
type marks struct {
	mu  sync.Mutex
	all []mark
}

type mark struct {
	at   time.Time
	what string
}

func (m *marks) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		m.mu.Lock()
		m.all = append(m.all, mark{time.Now(), strings.TrimSpace(lines.Text())})
		m.mu.Unlock()
	}
	return lines.Err()
}

func run(ctx context.Context, args []string, database string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	clients := flags.Int("clients", 16, "how many clients deposit at once")
	away := flags.Duration("away", 15*time.Second, "how long writes may be unavailable after a mark")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 || database == "" {
		return errors.New("DATABASE_URL and the URLs of Passbook are required")
	}
	l := newLoad(flags.Args())
	if err := l.open(ctx, 2*(*clients)); err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	for n := range *clients {
		group.Go(func() error { return l.deposits(loading, n) })
	}
	for n := range l.urls {
		group.Go(func() error { l.reads(loading, n); return nil })
	}
	var told marks
	err := told.read(in)
	stop()
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	return errors.Join(l.report(out, told.all, *away), audit(ctx, database, l, out), l.caughtUp(ctx, out))
}
