package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Pgbench is the result that a run of pgbench printed.
type Pgbench struct {
	// TPS is transactions a second, without the time to connect; LatencyMS their average latency.
	TPS, LatencyMS float64
}

var (
	tpsLine     = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	latencyLine = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	failedLine  = regexp.MustCompile(`(?m)^number of failed transactions: ([1-9][0-9]*)`)
)

// Pgbench runs a script with prepared statements over the Unix socket, which is how the server reaches the database
// too. The duration is rounded up to whole seconds.
func (s *Testbed) Pgbench(ctx context.Context, d Database, script string, clients int, duration time.Duration) (Pgbench, error) {
	file := s.next("pgbench") + ".sql"
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return Pgbench{}, err
	}
	seconds := max(1, int((duration+time.Second-1)/time.Second))
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "pgbench"),
		"-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)), "-T", strconv.Itoa(seconds),
		"-f", file, d.AdminURL)
	cmd.Env = []string{"PATH=" + s.opts.Path, "LC_ALL=C", "HOME=" + s.dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Pgbench{}, fmt.Errorf("pgbench: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if m := failedLine.FindSubmatch(out); m != nil {
		return Pgbench{}, fmt.Errorf("pgbench: %s transactions failed: %s", m[1], bytes.TrimSpace(stderr.Bytes()))
	}
	var r Pgbench
	for _, field := range []struct {
		line   *regexp.Regexp
		target *float64
	}{{tpsLine, &r.TPS}, {latencyLine, &r.LatencyMS}} {
		m := field.line.FindSubmatch(out)
		if m == nil {
			return Pgbench{}, errors.New("pgbench: its output is not understood: " + string(out))
		}
		if *field.target, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
			return Pgbench{}, fmt.Errorf("pgbench: %w", err)
		}
	}
	return r, nil
}
