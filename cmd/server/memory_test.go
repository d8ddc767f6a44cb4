package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// The limits in deploy/kubernetes/base/deployment.yaml.
const (
	manifestLimit    = 384 << 20
	manifestGoMemory = "GOMEMLIMIT=300MiB"
)

// TestBulkMemory sends the real server, in a cgroup with the manifests' limits, as many concurrent POST /commands as are
// allowed, each as expensive as possible. Each is applied or gets a response that says to retry, the server survives, and its
// memory stays below the container's limit.
func TestBulkMemory(t *testing.T) { //nolint:paralleltest // its load would slow the others down
	if testing.Short() {
		t.Skip("takes a minute")
	}
	manifest, err := os.ReadFile("../../deploy/kubernetes/base/deployment.yaml")
	if err != nil || !bytes.Contains(manifest, []byte("{name: GOMEMLIMIT, value: 300MiB}")) || !bytes.Contains(manifest, []byte("limits: {memory: 384Mi}")) {
		t.Fatal("the manifests have other limits than this test", err)
	}
	bin := filepath.Join(t.TempDir(), "server") // the race detector would use too much memory
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	const requests = 250
	bad := new(strings.Builder)
	bad.WriteString(`{"command":"deposit"`)
	for i := range 32 {
		fmt.Fprintf(bad, `,"no_such_field_%02d":1`, i)
	}
	bad.WriteString("}\n")
	for name, test := range map[string]struct {
		query, item string
		items       int
	}{
		"atomic, all bad": {"?atomic=true", bad.String(), 1000},
		"streams":         {"", `{"command":"deposit","account_id":"%s","amount":"0.01"}` + "\n", 1000},
		"streams, bad":    {"", bad.String(), 250},
	} {
		t.Run(name, func(t *testing.T) {
			confine := memoryGroup(t, manifestLimit)
			p := launch(t, bin, "DATABASE_URL="+pgtest.URL(t), manifestGoMemory, "PASSBOOK_MAX_STREAMS_PER_CALLER=256")
			confine(p.cmd.Process.Pid)
			p.awaitReady(t, time.Minute)
			id := uuid.NewString()
			api{t, apitest.Client(t), p.base}.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","account_id":"`+id+`"}`, 201)
			body := strings.Repeat(strings.Replace(test.item, "%s", id, 1), test.items)
			answers := sendAtOnce(t, p.base, "/commands"+test.query, body, requests)
			t.Logf("answers %v, at most %d MiB", answers, peak(t, p.cmd.Process.Pid)>>20)
			for status := range answers {
				if status != http.StatusOK && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
					t.Errorf("%d answers are %d", answers[status], status)
				}
			}
			if answers[http.StatusOK] == 0 {
				t.Error("no request was carried out")
			}
			if most := peak(t, p.cmd.Process.Pid); most > manifestLimit {
				t.Errorf("the server took %d MiB", most>>20)
			}
		})
	}
}

// sendAtOnce sends the same body n times concurrently, each on its own connection, and returns the number of responses by status.
// An incomplete response counts as 0. It reads no response before all bodies are being sent.
func sendAtOnce(t *testing.T, base, path, body string, times int) map[int]int {
	t.Helper()
	var (
		mu      sync.Mutex
		answers = make(map[int]int)
		ready   sync.WaitGroup
		all     sync.WaitGroup
	)
	ready.Add(times)
	for range times {
		all.Go(func() {
			status := sendRaw(strings.TrimPrefix(base, "http://"), path, body, func() { ready.Done(); ready.Wait() })
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
		})
	}
	all.Wait()
	return maps.Clone(answers)
}

// sendRaw sends a request without a transport's buffers, and reads the response at the same time.
func sendRaw(addr, path, body string, connected func()) (status int) {
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	connected()
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", path, addr, len(body))
		_, _ = io.Copy(conn, strings.NewReader(body))
	}()
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	return response.StatusCode
}

// memoryGroup makes a memory cgroup, if this machine allows it, and returns a function that puts a process into it.
func memoryGroup(t *testing.T, limit int) (confine func(pid int)) {
	t.Helper()
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	dir := filepath.Join(root, "passbook-"+uuid.NewString())
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		err = os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limit)), 0o600)
	}
	return func(pid int) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
		}
		if err != nil {
			t.Logf("no cgroup, so the limit is only measured, not enforced: %v", err)
		}
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak returns the most memory that a process has used, in bytes.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("the server is gone: %v", err)
	}
	found := highWater.FindSubmatch(status)
	if found == nil {
		t.Fatal("the server is gone")
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
