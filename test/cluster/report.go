package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// result is what a fault did.
type result struct {
	name string
	// skipped is why it was not injected, or empty.
	skipped string
	// goingOn is how long the followers took to have what was acknowledged until some time after the fault began, counted from that
	// time; negative if none could before the repair. healed is how long it took until everything was as before, from the repair on.
	goingOn, healed time.Duration
	// lag is that of a follower in the seconds after that, if it was measured.
	lag string
}

// printResults prints a table with a row for each fault, and the shortest and the longest time of several rounds.
func printResults(out io.Writer, results []result) {
	fmt.Fprint(out, "\n| fault | times | goes on after | healed after the repair | lag of a follower afterwards |\n|---|---|---|---|---|\n")
	printed := make(map[string]bool)
	for _, r := range results {
		if printed[r.name] {
			continue
		}
		printed[r.name] = true
		if r.skipped != "" {
			fmt.Fprintf(out, "| %s | SKIPPED, not injected: %s | | | |\n", r.name, r.skipped)
			continue
		}
		var goingOn, healed []time.Duration
		var lag []string
		for _, other := range results {
			if other.name == r.name {
				goingOn, healed = append(goingOn, other.goingOn), append(healed, other.healed)
				lag = append(lag, other.lag)
			}
		}
		first := "after the repair"
		if r.goingOn >= 0 {
			first = span(goingOn)
		}
		fmt.Fprintf(out, "| %s | %d | %s | %s | %s |\n", r.name, len(healed), first, span(healed), lag[len(lag)-1])
	}
}

func span(all []time.Duration) string {
	least, most := slices.Min(all).Seconds(), slices.Max(all).Seconds()
	if len(all) == 1 {
		return fmt.Sprintf("%.2f s", least)
	}
	return fmt.Sprintf("%.2f–%.2f s", least, most)
}

// describeMachine describes what the figures were measured on, and by which command.
func (w *world) describeMachine(ctx context.Context) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(value, "\t: "))
				break
			}
		}
	}
	var version string
	if conn, err := pgx.Connect(ctx, w.postgres.URL()); err == nil {
		_ = conn.QueryRow(ctx, "show server_version").Scan(&version)
		_ = conn.Close(ctx)
	}
	return fmt.Sprintf("%s: %s, %d cores, %s/%s, %s, PostgreSQL %s, nats-server %s: `cluster %s`.", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), version, w.js.Conn().ConnectedServerVersion(),
		strings.Join(os.Args[1:], " "))
}

// begin and end enclose what writeDoc replaces.
var begin, end = []byte("<!-- cluster:begin (written by make cluster with -doc) -->\n"), []byte("<!-- cluster:end -->")

// writeDoc replaces the part of a document between the two comments.
func writeDoc(path string, text []byte) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(doc, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !ok || !ended {
		return errors.New(path + " has no comments cluster:begin and cluster:end")
	}
	return os.WriteFile(path, bytes.Join([][]byte{before, begin, []byte("\n"), text, []byte("\n"), end, after}, nil), 0o644)
}
