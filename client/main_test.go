package client_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs a server with a private PostgreSQL for the examples.
func TestMain(m *testing.M) {
	stop, err := serve()
	code := 1
	if err == nil {
		code = m.Run()
		err = stop()
	}
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func serve() (stop func() error, err error) {
	dir, err := os.MkdirTemp("", "passbook-client-")
	if err != nil {
		return nil, err
	}
	// If the tests run as root, PostgreSQL runs as another user, who must be able to enter.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "server")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "passbook/cmd/server").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "PASSBOOK_QUERY_DATABASE_URL=", "PASSBOOK_DATA_DIR="+filepath.Join(dir, "data"),
		"PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_LEVEL=warn")
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, said)
		if err := cmd.Wait(); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if server = regexp.MustCompile(`http://[0-9.:]+`).FindString(lines.Text()); server != "" {
			return stop, nil
		}
	}
	return nil, fmt.Errorf("the server did not print its address: %w", cmd.Wait())
}
