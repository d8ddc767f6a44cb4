package localpg

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseMajor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 18.4\n":                           18,
		"postgres (PostgreSQL) 19beta1\n":                        19,
		"postgres (PostgreSQL) 9.6.24\n":                         9,
		"postgres (PostgreSQL) 17":                               17,
		"postgres (PostgreSQL) devel":                            0,
		"psql 15":                                                0,
		"":                                                       0,
	} {
		got, err := parseMajor(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("parseMajor(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestUsualPlacesAreWellFormed(t *testing.T) {
	t.Parallel()
	for _, pattern := range usualPlaces {
		if _, err := filepath.Match(pattern, ""); err != nil || !filepath.IsAbs(pattern) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func TestInstallCommand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		goos, have string
		euid       int
		want       string
	}{
		{"linux", "apt-get", 0, "apt-get install -y postgresql"},
		{"linux", "apt-get", 1000, "sudo apt-get install -y postgresql"},
		{"linux", "dnf", 0, "dnf install -y postgresql-server"},
		{"linux", "apk", 0, "apk add postgresql"},
		{"darwin", "", 501, "brew install postgresql@18"},
		{"linux", "", 0, "package manager"},
	} {
		lookPath := func(name string) (string, error) {
			if name == tc.have {
				return "/usr/bin/" + name, nil
			}
			return "", os.ErrNotExist
		}
		if got := installCommand(tc.goos, lookPath, tc.euid); !strings.Contains(got, tc.want) {
			t.Errorf("%+v: got %q", tc, got)
		}
	}
}

// fakeInstallation makes a directory with programs that report a version of PostgreSQL.
func fakeInstallation(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{
		"initdb":   "#!/bin/sh\nexit 0\n",
		"postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	none := func(int) bool { return false }
	t.Run("the directory that is given", func(t *testing.T) {
		t.Parallel()
		got, err := findBinaries(t.Context(), fakeInstallation(t, "17.2"), none)
		if err != nil || got.major != 17 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("too old", func(t *testing.T) {
		t.Parallel()
		_, err := findBinaries(t.Context(), fakeInstallation(t, "9.6"), none)
		if err == nil || !strings.Contains(err.Error(), "older than "+strconv.Itoa(MinMajor)) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("data wins over a newer version", func(t *testing.T) {
		t.Parallel()
		found := []binaries{{"/18", 18}, {"/16", 16}, {"/17", 17}}
		got := preferred(found, func(major int) bool { return major < 18 })
		if got.major != 17 {
			t.Errorf("got %+v", got)
		}
		if got := preferred(found, none); got.major != 18 {
			t.Errorf("without data got %+v", got)
		}
	})
}

func TestNotInstalledSaysHowToInstall(t *testing.T) {
	t.Parallel()
	err := notInstalled()
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "install it with") ||
		!strings.Contains(err.Error(), "PG_BIN") {
		t.Errorf("got %v", err)
	}
}

func self(t *testing.T) account {
	t.Helper()
	return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), name: "me"}
}

func TestSocketDirectoryOfAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	target := filepath.Join(base, "elsewhere")
	open := filepath.Join(base, "open")
	link := filepath.Join(base, "link")
	file := filepath.Join(base, "file")
	err := errors.Join(
		os.Mkdir(target, 0o700), os.Symlink(target, link),
		os.Mkdir(open, 0o700), os.Chmod(open, 0o777),
		os.WriteFile(file, nil, 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{open, link, file} {
		if err := makeSocketDir(path, self(t)); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: got %v, want a refusal", path, err)
		}
	}
	other := self(t)
	other.uid++
	if err := makeSocketDir(target, other); err == nil {
		t.Error("the directory of another user was accepted")
	}
	if err := makeSocketDir(target, self(t)); err != nil {
		t.Errorf("the account's own, left by an earlier process: %v", err)
	}
}

func TestSocketPathFits(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	long := filepath.Join(base, strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, runtimeDir := range []string{"", long, "relative", "/does/not/exist", "/dev/null"} {
		dir, err := socketDirPath(long, runtimeDir, self(t))
		if err != nil || !strings.HasPrefix(dir, "/tmp/passbook-") && !strings.HasPrefix(dir, "/private/tmp/passbook-") {
			t.Errorf("with runtime directory %q: %q, %v", runtimeDir, dir, err)
		}
		if len(filepath.Join(dir, socketName)) > maxSocketPath {
			t.Errorf("%s is too long", dir)
		}
	}
}

func TestPidFileOfAnotherServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if pids, _ := clusterProcesses(dir); len(pids) > 0 {
		t.Fatalf("processes %v in an empty directory", pids)
	}
	// A reused process id, as in a restarted container: it is now this process, which is not a server.
	text := strconv.Itoa(os.Getpid()) + "\n" + dir + "\n1700000000\n5432\n/tmp/x\n\n 1 2\nready   \n"
	if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := readPidFile(dir)
	if want := (pidFile{os.Getpid(), "/tmp/x", "ready"}); err != nil || file != want {
		t.Fatalf("readPidFile = %+v, %v; want %+v", file, err, want)
	}
	if pids, certain := clusterProcesses(dir); certain && len(pids) > 0 {
		t.Errorf("processes %v, though none works in %s", pids, dir)
	} else if !certain {
		return // the rest needs a platform that can tell
	}
	if err := awaitPrevious(t.Context(), dir, "/tmp/x", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); err == nil {
		t.Error("the stale file is still there, and PostgreSQL would not start")
	}
}

func TestReadPidFileHalfWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, text := range []string{"", "\n", "12", "x\ny"} {
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if file, err := readPidFile(dir); err != nil || file.status != "" || file.socketDir != "" || (text != "12" && file.pid != 0) {
			t.Errorf("%q: %+v, %v", text, file, err)
		}
	}
}

func TestSettingsCannotMoveTheSocket(t *testing.T) {
	t.Parallel()
	args := serverArgs("/data", "/run/x", map[string]string{"listen_addresses": "*", "work_mem": "8MB", "fsync": "off"})
	for _, want := range []string{"--listen_addresses=", "--work_mem=8MB", "--fsync=off", "--unix_socket_directories=/run/x"} {
		if !slices.Contains(args, want) {
			t.Errorf("%v lacks %s", args, want)
		}
	}
	if !slices.Contains(serverArgs("/data", "/run/x", nil), "--fsync=on") {
		t.Error("commits are not durable by default")
	}
}
