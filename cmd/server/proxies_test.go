package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// eventSource follows a stream as a browser's EventSource does (HTML standard, section 9.2): it reconnects when the stream
// ends and when the connection fails, and gives up at any status but 200.
type eventSource struct {
	url string

	mu   sync.Mutex
	ids  []string
	gone error
}

func (e *eventSource) run(ctx context.Context) {
	retry, last := 100*time.Millisecond, ""
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, http.NoBody)
		if err != nil {
			panic(err) // a test's own URL
		}
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err == nil {
			if mediaType := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || mediaType != "text/event-stream" {
				_ = response.Body.Close()
				e.mu.Lock()
				e.gone = fmt.Errorf("gives up at %s, %s", response.Status, mediaType)
				e.mu.Unlock()
				return
			}
			e.read(response, &last, &retry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (e *eventSource) read(response *http.Response, last *string, retry *time.Duration) {
	defer func() { _ = response.Body.Close() }()
	lines, id, data := bufio.NewScanner(response.Body), *last, false
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			data = true
		case "retry":
			if n, err := strconv.Atoi(value); err == nil {
				*retry = time.Duration(n) * time.Millisecond / 10 // for the test's sake
			}
		case "":
			if lines.Text() == "" {
				*last = id
				if data {
					e.mu.Lock()
					e.ids = append(e.ids, id)
					e.mu.Unlock()
				}
				data = false
			}
		}
	}
}

// state returns the number of events received, and fails the test if the source has given up.
func (e *eventSource) state(t *testing.T) int {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone != nil {
		t.Fatal(e.gone)
	}
	for i, id := range e.ids {
		if id != strconv.Itoa(i+1) {
			t.Fatalf("the positions are %v", e.ids)
		}
	}
	return len(e.ids)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// proxy runs a proxy with its configuration from deploy, with other addresses, and returns where it listens.
func proxy(t *testing.T, name, server string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	if _, err := exec.LookPath(name); err != nil {
		if out, err := exec.Command(filepath.Join(root, "scripts/ensure-proxies")).CombinedOutput(); err != nil {
			t.Skipf("%s cannot be installed here: %s", name, out)
		}
	}
	recipe, err := os.ReadFile(filepath.Join(root, map[string]string{"nginx": "deploy/nginx/passbook.conf", "haproxy": "deploy/haproxy/haproxy.cfg"}[name]))
	if err != nil {
		t.Fatal(err)
	}
	addr, dir := freeAddr(t), t.TempDir()
	text := strings.NewReplacer("127.0.0.1:8080", server, "127.0.0.1:8000", addr).Replace(string(recipe))
	config := filepath.Join(dir, "config")
	args := []string{"-db", "-f", config}
	if name == "nginx" {
		text = "daemon off; pid " + dir + "/pid; error_log stderr; events {} http { access_log off; client_body_temp_path " + dir +
			"/body; proxy_temp_path " + dir + "/proxy; fastcgi_temp_path " + dir + "/f; uwsgi_temp_path " + dir + "/u; scgi_temp_path " + dir + "/s;\n" + text + "}"
		args = []string{"-p", dir, "-c", config}
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	out := new(lockedBuffer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
	eventually(t, name+" listens", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://" + addr
}

// TestBehindAProxy follows the log through a proxy configured as docs/proxies.md says, while the server is killed and
// restarted.
func TestBehindAProxy(t *testing.T) { //nolint:paralleltest // it sets PATH
	binary := build(t)
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			database := "DATABASE_URL=" + pgtest.URL(t)
			p := launch(t, binary, database)
			p.awaitReady(t, time.Minute)
			addr := strings.TrimPrefix(p.base, "http://")
			settings := []string{"PASSBOOK_ADDR=" + addr, database} // after a restart too
			base := proxy(t, name, addr)
			a := api{t, apitest.Client(t), base}
			eventually(t, "a response through "+name, func() bool {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/totals", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
				if err != nil {
					return false
				}
				_ = response.Body.Close()
				return response.StatusCode == http.StatusOK
			})
			source := &eventSource{url: base + "/events?after=0"}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); source.run(ctx) }()
			defer func() { cancel(); <-done }()

			id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
			eventually(t, "the first event", func() bool { return source.state(t) == 1 })
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-p.done
			eventually(t, "no server behind "+name, func() bool {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/totals", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
				if err != nil {
					return false
				}
				_ = response.Body.Close()
				return response.StatusCode >= http.StatusInternalServerError
			})
			<-time.After(time.Second) // in which the source reconnects several times
			source.state(t)
			launch(t, binary, settings...)
			direct := api{t, apitest.Client(t), "http://" + addr}
			eventually(t, "the server is back", func() bool {
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
				if err == nil {
					_ = conn.Close()
				}
				return err == nil
			})
			eventually(t, "it is ready", func() bool {
				response, err := direct.client.Get(direct.base + "/readyz")
				if err != nil {
					return false
				}
				_ = response.Body.Close()
				return response.StatusCode == http.StatusOK
			})
			direct.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1"}`, 201)
			eventually(t, "the second event", func() bool { return source.state(t) == 2 })
			for range 10 {
				direct.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)
			}
			compressed(t, base, "/openapi.yaml")
			compressed(t, base, "/events?after=0")
		})
	}
}

// compressed checks that a proxy compresses a page, and that its ETag, if it has one, still validates it.
func compressed(t *testing.T, base, path string) {
	t.Helper()
	get := func(accept, etag string) (int, http.Header, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", accept)
		if etag != "" {
			r.Header.Set("If-None-Match", etag)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header, body
	}
	_, header, zipped := get("gzip", "")
	unzip, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil || header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%s is not compressed: %v %v", path, header, err)
	}
	got, err := io.ReadAll(unzip)
	if _, _, want := get("identity", ""); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes unzipped, %d plain: %v", path, len(got), len(want), err)
	}
	if etag := header.Get("ETag"); etag != "" {
		if status, _, _ := get("gzip", etag); status != http.StatusNotModified {
			t.Errorf("%s: with ETag %s %d, want 304", path, etag, status)
		}
	}
}
