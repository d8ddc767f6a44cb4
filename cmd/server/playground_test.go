package main

import (
	"context"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPlayground seeds an empty database, serves it, verifies it, and refuses to seed it again.
func TestPlayground(t *testing.T) {
	t.Parallel()
	data := private(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settings := []string{data, "HOME=/", "PASSBOOK_ADDR=" + listener.Addr().String(), "PASSBOOK_LOG_LEVEL=error"}
	if code, _, stderr := invoke(t.Context(), []string{"demo", "--seed"}, settings...); code != exitFailed || !strings.Contains(stderr, "PASSBOOK_ADDR") {
		t.Errorf("on an address in use: %d %s", code, stderr)
	}
	if left, err := os.ReadDir(strings.TrimPrefix(data, "PASSBOOK_DATA_DIR=")); err != nil || len(left) > 0 {
		t.Errorf("that made %v, %v", left, err)
	}
	_ = listener.Close()
	settings[2] = "PASSBOOK_ADDR=127.0.0.1:0"
	h := &hosted{log: new(lockedBuffer)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done, errs, began := make(chan int, 1), new(lockedBuffer), time.Now()
	env := slices.Clone(settings)
	go func() { done <- run(ctx, []string{"demo", "--seed=7"}, env, h.log, errs) }()
	eventually(t, "the playground is ready", func() bool {
		if found := regexp.MustCompile(`console  http://(\S+)/console\n`).FindStringSubmatch(h.log.String()); found != nil {
			settings[2] = "PASSBOOK_ADDR=" + found[1]
			code, _, _ := invoke(t.Context(), []string{"healthcheck"}, settings...)
			return code == exitOK
		}
		return len(done) > 0
	})
	l := commandLine{t, "http://" + strings.TrimPrefix(settings[2], "PASSBOOK_ADDR=")}
	found := regexp.MustCompile(`(\d{4}) events of \d+ accounts in \d currencies`).FindStringSubmatch(h.log.String())
	if found == nil || !strings.Contains(h.log.String(), "/console\n") || !strings.Contains(h.log.String(), "server tail") {
		t.Fatalf("it says\n%s%s", h.log.String(), errs.String())
	}
	head, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the read models have all of it", func() bool {
		stdout, _ := l.run(exitOK, "status", "--json")
		return strings.Count(stdout, `"position":`+strconv.FormatFloat(head, 'f', -1, 64)+`,`) == 5
	})
	t.Logf("it took %s", time.Since(began)) // 3 s, without the race detector and other tests
	for line, want := range map[string]string{
		"accounts --status closed":                   `closed\n`,
		"accounts --status suspended":                `suspended\n`,
		"accounts --currency JPY":                    `湯浅`,
		"accounts --limit 1000":                      `-\d+\.\d\d `,
		"transactions --metadata category=salary":    `Salary `,
		"transactions --from 2000-01-01 --limit 400": `reversal_in`,
	} {
		l.find("("+want+")", strings.Fields(line)...)
	}
	position := l.find(`position (\d+)`, "accounts", "open", "Newcomer", "EUR")
	if position != strconv.FormatFloat(head+1, 'f', -1, 64) {
		t.Errorf("the first command is at position %s, after %s", position, found[1])
	}
	verifyIsSound(t, data)
	stop()
	if code := <-done; code != exitOK {
		t.Errorf("it ended with %d: %s", code, errs.String())
	}
	code, _, stderr := invoke(t.Context(), []string{"demo", "--seed"}, settings...)
	if code != exitFailed || !strings.Contains(stderr, "is not empty") || !strings.Contains(stderr, "server --data-dir") {
		t.Errorf("the second time: %d %s", code, stderr)
	}
	code, _, stderr = invoke(t.Context(), []string{"demo", "--seed"}, append(settings, "DATABASE_URL=postgres://h/db")...)
	if code != exitSettings || !strings.Contains(stderr, "DATABASE_URL") {
		t.Errorf("on a database of one's own: %d %s", code, stderr)
	}
}
