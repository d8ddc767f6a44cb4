package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a new terminal: what a program writes to screen can be read from keyboard.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, screen
}

// TestProgressOfLongWork shows bars on a terminal, and none in a pipe.
func TestProgressOfLongWork(t *testing.T) {
	t.Parallel()
	data, other, dump := private(t), private(t), filepath.Join(t.TempDir(), "dump")
	code, _, stderr := invoke(t.Context(), []string{"migrate"}, data, "HOME=/", "PASSBOOK_LOG_LEVEL=error")
	if code != exitOK {
		t.Fatalf("%d %s", code, stderr)
	}
	for _, work := range []struct {
		args []string
		data string
		bar  string
		says string
	}{
		{[]string{"verify"}, data, "verify ", "nothing differs"},
		{[]string{"backup", dump}, data, "backup (", "server restore reads it"},
		{[]string{"restore", dump}, other, "restore ", "the log up to position 0 is in"},
	} {
		if work.args[0] != "restore" { // the terminal's turn needs an empty directory
			code, stdout, stderr := invoke(t.Context(), work.args, work.data, "HOME=/", "PASSBOOK_LOG_LEVEL=error")
			if code != exitOK || stderr != "" || strings.Contains(stdout, "\r") {
				t.Errorf("%v in a pipe: %d %q %q", work.args, code, stdout, stderr)
			}
		}
		keyboard, screen := terminal(t)
		shown := make(chan string)
		go func() {
			text, _ := io.ReadAll(keyboard) // ends with an error when the screen is closed
			shown <- string(text)
		}()
		code := run(context.WithoutCancel(t.Context()), work.args, []string{work.data, "HOME=/", "PASSBOOK_LOG_LEVEL=error"}, screen, screen)
		_ = screen.Close()
		if text := <-shown; code != exitOK || !strings.Contains(text, work.bar) || !strings.HasPrefix(text, "\r") || !strings.Contains(text, work.says) {
			t.Errorf("%v on a terminal: %d %q", work.args, code, text)
		}
	}
}
