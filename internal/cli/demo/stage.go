package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"passbook/internal/localpg"
)

// stage is the server of the demonstration, and its directory.
type stage struct {
	dir, binary, pgBin string
	addr               string // set by the first start
	child              *exec.Cmd
	ended              chan struct{} // closed when the child has ended
	said               log
}

// log keeps the server's output, to report when it fails.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (s *stage) base() string { return "http://" + s.addr }

func (s *stage) data() string { return filepath.Join(s.dir, "data") }

// settings returns the environment of a child: that of this process, without Passbook's settings.
func (s *stage) settings() []string {
	var env []string
	for _, one := range os.Environ() {
		if !strings.HasPrefix(one, "PASSBOOK_") && !strings.HasPrefix(one, "DATABASE_URL=") && !strings.HasPrefix(one, "PG_BIN=") {
			env = append(env, one)
		}
	}
	env = append(env, "PASSBOOK_DATA_DIR="+s.data(), "PASSBOOK_ADDR="+s.addr, "PASSBOOK_LOG_LEVEL=warn", "PASSBOOK_LOG_FORMAT=text")
	if s.pgBin != "" {
		env = append(env, "PG_BIN="+s.pgBin)
	}
	return env
}

// start runs the server and returns when it is ready.
func (s *stage) start(ctx context.Context) error {
	if s.addr == "" {
		var listen net.ListenConfig
		free, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("a free port: %w", err)
		}
		s.addr = free.Addr().String()
		_ = free.Close()
	}
	s.child = exec.CommandContext(context.WithoutCancel(ctx), s.binary, "serve") // close ends it
	s.child.Env, s.child.Stdout, s.child.Stderr = s.settings(), &s.said, &s.said
	s.child.SysProcAttr = childAttr()
	if err := s.child.Start(); err != nil {
		return fmt.Errorf("the server: %w", err)
	}
	child, ended := s.child, make(chan struct{})
	s.ended = ended
	go func() {
		_ = child.Wait() // its output says why
		close(ended)
	}()
	return until(ctx, "the server is ready", s.ready)
}

func (s *stage) ready(ctx context.Context) (bool, error) {
	select {
	case <-s.ended:
		return false, fmt.Errorf("the server has ended:\n%s", s.said.String())
	default:
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base()+"/readyz", http.NoBody)
	if err != nil {
		return false, fmt.Errorf("the server: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, nil //nolint:nilerr // not yet
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

// kill ends the server with SIGKILL.
func (s *stage) kill() error {
	if err := s.child.Process.Kill(); err != nil {
		return fmt.Errorf("the server: %w", err)
	}
	<-s.ended
	return nil
}

// close stops the server, if one runs.
func (s *stage) close() error {
	http.DefaultClient.CloseIdleConnections()
	if s.ended == nil {
		return nil
	}
	if err := s.child.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("the server: %w", err)
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(time.Minute):
		return errors.Join(errors.New("the server did not stop"), s.kill())
	}
}

// verify runs server verify and returns the JSON that it prints.
func (s *stage) verify(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.binary, "verify", "--json")
	var said bytes.Buffer
	cmd.Env, cmd.Stderr = s.settings(), &said
	out, err := cmd.Output()
	if len(out) == 0 {
		return nil, fmt.Errorf("server verify: %w: %s", err, said.String())
	}
	return out, nil // it exits 1 when something differs
}

// databaseURL returns the URL of the server's database.
func (s *stage) databaseURL(ctx context.Context) (string, error) {
	return localpg.Attach(ctx, s.data())
}
