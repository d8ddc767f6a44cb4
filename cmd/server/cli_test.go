package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/localpg"
	"passbook/internal/verify"
)

// invoke runs a command of the binary in this process, with settings as NAME=value.
func invoke(ctx context.Context, args []string, settings ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, settings, &out, &errs)
	return code, out.String(), errs.String()
}

func environ(env map[string]string) []string {
	var all []string
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

// TestOperatorCommands runs the operator's commands against a real server with a private PostgreSQL.
func TestOperatorCommands(t *testing.T) {
	t.Parallel()
	data := private(t)
	dir := strings.TrimPrefix(data, "PASSBOOK_DATA_DIR=")
	if code, _, stderr := invoke(t.Context(), []string{"verify"}, data); code != exitFailed || !strings.Contains(stderr, "there is no private PostgreSQL") {
		t.Errorf("verify of nothing: %d %s", code, stderr)
	}
	p := launch(t, build(t), data)
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	position := a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"12.34"}`, 201)["position"]
	a.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%v", id, position), "", 200)
	addr := "PASSBOOK_ADDR=" + strings.TrimPrefix(p.base, "http://")

	code, stdout, stderr := invoke(t.Context(), []string{"status"}, addr, "HOME=/")
	if code != exitOK || !strings.Contains(stdout, "PROJECTION") || !strings.Contains(stdout, "balances") || !strings.Contains(stdout, "running") {
		t.Errorf("status: %d %s%s", code, stdout, stderr)
	}
	code, stdout, _ = invoke(t.Context(), []string{"status", "--json", "--server", p.base + "/"}, "HOME=/")
	var list genapi.ProjectionList
	if err := json.Unmarshal([]byte(stdout), &list); code != exitOK || err != nil || list.Projections[0].Head != 2 {
		t.Errorf("status --json: %d %s", code, stdout)
	}
	code, stdout, stderr = invoke(t.Context(), []string{"replay", "balances", "--follow"}, addr, "HOME=/")
	if code != exitOK || !strings.Contains(stdout, "completed: 2 of 2 events") {
		t.Errorf("replay --follow: %d %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = invoke(t.Context(), []string{"replay", "balances", "--json"}, addr, "HOME=/")
	var replay genapi.Replay
	if err := json.Unmarshal([]byte(stdout), &replay); code != exitOK || err != nil || replay.Total != 2 {
		t.Errorf("replay --json: %d %s%s", code, stdout, stderr)
	}
	a.awaitReplay(replay.ID.String())
	code, _, stderr = invoke(t.Context(), []string{"replay", "nothing", "--follow"}, addr, "HOME=/")
	if code != exitFailed || !strings.Contains(stderr, "No projection has this id") {
		t.Errorf("replay of nothing: %d %s", code, stderr)
	}
	verifyIsSound(t, data)
	url, err := localpg.Attach(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, url).Exec(t.Context(), `update balances set balance = balance + 1`); err != nil {
		t.Fatal(err)
	}
	verifyNames(t, data, id)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.done
	verifyNames(t, data, id) // with no server, it starts the private PostgreSQL itself
}

func verifyIsSound(t *testing.T, database string) {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), []string{"verify"}, database, "PASSBOOK_LOG_LEVEL=error")
	if code != exitOK || !strings.Contains(stdout, "nothing differs") || strings.Contains(stdout, "DIFF") {
		t.Errorf("verify: %d %s%s", code, stdout, stderr)
	}
}

// verifyNames checks that server verify names the account whose balance was changed by hand.
func verifyNames(t *testing.T, database, id string) {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), []string{"verify"}, database, "PASSBOOK_LOG_LEVEL=error")
	if code != exitFailed || !strings.Contains(stdout, "account "+id+": balance is 1235, should be 1234") || !strings.Contains(stderr, "differences: 2") {
		t.Errorf("verify: %d %s%s", code, stdout, stderr)
	}
	code, stdout, _ = invoke(t.Context(), []string{"verify", "--json"}, database, "PASSBOOK_LOG_LEVEL=error")
	var report verify.Report
	if err := json.Unmarshal([]byte(stdout), &report); code != exitFailed || err != nil || report.OK || report.Head != 2 {
		t.Errorf("verify --json: %d %s", code, stdout)
	}
}

// TestReplayFollow follows replays with every outcome, on a scripted server.
func TestReplayFollow(t *testing.T) {
	t.Parallel()
	const running = `{"id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41","projection":"balances","state":"running","processed":%d,"total":100,"rate":10,"eta_seconds":9}`
	const ended = `{"id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41","projection":"balances","state":"%s","processed":%d,"total":100,"error":%s}`
	for name, test := range map[string]struct {
		begin   string
		answers []string // the last one repeats; "" is a server that is down
		args    []string
		code    int
		out     []string
		err     string
	}{
		"completed": {
			begin: fmt.Sprintf(running, 0), answers: []string{fmt.Sprintf(running, 50), fmt.Sprintf(ended, "completed", 100, "null")},
			out: []string{"replay 0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41 of balances: 100 events", "50% of 100 events, 10/s, 9s left", "completed: 100 of 100"},
		},
		"failed": {
			begin: fmt.Sprintf(running, 0), answers: []string{fmt.Sprintf(ended, "failed", 7, `"the disk is full"`)},
			code: exitFailed, err: "the replay of balances is failed: the disk is full",
		},
		"a server that restarts": {
			begin: fmt.Sprintf(running, 0), answers: []string{"", "", fmt.Sprintf(ended, "completed", 100, "null")}, out: []string{"completed"},
		},
		"one that runs already": {
			begin: "409", answers: []string{fmt.Sprintf(running, 30), fmt.Sprintf(ended, "cancelled", 30, "null")},
			code: exitFailed, out: []string{"already running"}, err: "is cancelled",
		},
		"as JSON": {
			begin: fmt.Sprintf(running, 0), answers: []string{fmt.Sprintf(ended, "completed", 100, "null")}, args: []string{"--json"},
			out: []string{`"processed":0`, `"state":"completed"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPost && test.begin == "409":
					w.WriteHeader(http.StatusConflict)
					_, _ = io.WriteString(w, `{"status":409,"code":"replay-running","replay_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"}`)
				case r.Method == http.MethodPost:
					_, _ = io.WriteString(w, test.begin)
				default:
					n := min(int(asked.Add(1)), len(test.answers))
					if test.answers[n-1] == "" {
						panic(http.ErrAbortHandler)
					}
					_, _ = io.WriteString(w, test.answers[n-1])
				}
			}))
			defer server.Close()
			args := append([]string{"replay", "balances", "--follow", "--server", server.URL}, test.args...)
			code, stdout, stderr := invoke(t.Context(), args, "HOME=/")
			if code != test.code || !strings.Contains(stderr, test.err) {
				t.Errorf("%d %s%s", code, stdout, stderr)
			}
			for _, want := range test.out {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in %s", want, stdout)
				}
			}
		})
	}
}

func TestReplayFollowInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			interrupt()
		}
		_, _ = io.WriteString(w, `{"id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41","projection":"balances","state":"running","total":9}`)
	}))
	defer server.Close()
	code, _, stderr := invoke(ctx, []string{"replay", "balances", "--follow", "--server", server.URL}, "HOME=/")
	want := "curl -X DELETE " + server.URL + "/projections/balances/replays/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"
	if code != exitFailed || !strings.Contains(stderr, "which continues") || !strings.Contains(stderr, want) {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestInvalidCommandLines(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"replay"},
		{"replay", "a", "b"},
		{"status", "balances"},
		{"verify", "balances"},
		{"verify", "--limit", "0"},
		{"demo", "--deposits", "-1"},
		{"demo", "twice"},
		{"status", "--server", "localhost"},
		{"status", "--server", "ftp://x"},
	} {
		if code, _, stderr := invoke(t.Context(), args, "HOME=/"); code != exitSettings {
			t.Errorf("%v: %d %s", args, code, stderr)
		}
	}
	if code, _, stderr := invoke(t.Context(), []string{"status", "--addr", "127.0.0.1:1"}, "HOME=/"); code != exitFailed || !strings.Contains(stderr, "no response") {
		t.Errorf("%d %s", code, stderr)
	}
}
