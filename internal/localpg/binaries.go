package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest usable major version of PostgreSQL.
const MinMajor = 14

// ErrNotInstalled means that no usable PostgreSQL was found. The error that wraps it names the places that were searched
// and the command that installs one on this system.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// usualPlaces are the directories where the packages of common systems put initdb and postgres, most of them outside
// PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                   // PGDG on Fedora, RHEL
	"/usr/lib/postgresql[0-9]*/bin",                      // SUSE
	"/usr/libexec/postgresql*",                           // Alpine
	"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
	"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
	"/usr/local/pgsql/bin",                               // built from source
}

// binaries is one installed PostgreSQL.
type binaries struct {
	dir   string // absolute, holds initdb and postgres
	major int
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// findBinaries returns the installation to run. If pgBin is given, it searches only there. Otherwise an installation
// whose major version already has data (haveData) wins over a newer one without, so that installing a second PostgreSQL
// does not make the data look lost; among equals the newest wins.
func findBinaries(ctx context.Context, pgBin string, haveData func(major int) bool) (binaries, error) {
	if pgBin != "" {
		b, err := inspect(ctx, pgBin)
		if err != nil {
			return binaries{}, fmt.Errorf("PG_BIN=%s does not hold a usable PostgreSQL: %w", pgBin, err)
		}
		return b, nil
	}

	var found []binaries
	for _, dir := range candidateDirs() {
		if b, err := inspect(ctx, dir); err == nil {
			found = append(found, b)
		}
	}
	if err := ctx.Err(); err != nil {
		return binaries{}, err
	}
	if len(found) == 0 {
		return binaries{}, notInstalled()
	}
	return preferred(found, haveData), nil
}

// preferred orders installations: those with data first, then by version, newest first.
func preferred(found []binaries, haveData func(major int) bool) binaries {
	return slices.MaxFunc(found, func(a, b binaries) int {
		if da, db := haveData(a.major), haveData(b.major); da != db {
			if da {
				return 1
			}
			return -1
		}
		return a.major - b.major
	})
}

func notInstalled() error {
	return fmt.Errorf("%w (version %d or newer; looked in %s and PATH): install it with `%s`, "+
		"or set PG_BIN to the directory that holds initdb and postgres, or set DATABASE_URL to use a server of your own",
		ErrNotInstalled, MinMajor, strings.Join(usualPlaces, ", "), installCommand(runtime.GOOS, exec.LookPath, os.Geteuid()))
}

// candidateDirs lists the directories that may hold a PostgreSQL, in order of preference among equal versions.
func candidateDirs() []string {
	var dirs []string
	for _, pattern := range usualPlaces {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern, which the tests exclude
		}
		dirs = append(dirs, matches...)
	}
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		dirs = append(dirs, filepath.Dir(path))
		// A link in PATH leads to the directory that also holds the other programs.
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// inspect reports whether dir holds initdb and postgres of a usable version.
func inspect(ctx context.Context, dir string) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	b := binaries{dir: dir}
	if _, err := exec.LookPath(b.path("initdb")); err != nil {
		return binaries{}, err
	}
	cmd := exec.CommandContext(ctx, b.path("postgres"), "--version")
	cmd.Env = environment(dir)
	out, err := cmd.Output()
	if err != nil {
		return binaries{}, fmt.Errorf("run %s --version: %w", b.path("postgres"), err)
	}
	if b.major, err = parseMajor(string(out)); err != nil {
		return binaries{}, err
	}
	if b.major < MinMajor {
		return binaries{}, fmt.Errorf("%s is version %d, older than %d", b.path("postgres"), b.major, MinMajor)
	}
	return b, nil
}

// parseMajor reads the major version from the output of postgres --version, such as
// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)" or "postgres (PostgreSQL) 19beta1".
func parseMajor(version string) (int, error) {
	_, rest, ok := strings.Cut(version, "(PostgreSQL) ")
	if !ok {
		return 0, fmt.Errorf("not the version of a PostgreSQL: %q", version)
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0, fmt.Errorf("not the version of a PostgreSQL: %q", version)
	}
	return major, nil
}

// installCommand returns the command that installs PostgreSQL with the package manager that lookPath finds.
func installCommand(goos string, lookPath func(string) (string, error), euid int) string {
	managers := []struct{ program, command string }{
		{"apt-get", "apt-get install -y postgresql"},
		{"dnf", "dnf install -y postgresql-server"},
		{"apk", "apk add postgresql"},
		{"zypper", "zypper install -y postgresql-server"},
		{"pacman", "pacman -S --noconfirm postgresql"},
	}
	if goos == "darwin" {
		return "brew install postgresql@18"
	}
	for _, m := range managers {
		if _, err := lookPath(m.program); err != nil {
			continue
		}
		if euid == 0 {
			return m.command
		}
		return "sudo " + m.command
	}
	return "the package manager of this system (the package is usually called postgresql)"
}
