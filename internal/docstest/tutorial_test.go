package docstest

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// TestTutorial follows the tutorial in a copy of the repository, which it changes and builds.
func TestTutorial(t *testing.T) {
	t.Parallel()
	clone, data := filepath.Join(t.TempDir(), "clone"), filepath.Join(passable(t), "data")
	copyRepository(t, clone)
	if vendor, err := filepath.Abs(filepath.Join(root, "vendor")); err != nil {
		t.Fatal(err)
	} else if _, err := os.Stat(vendor); err == nil { // if the clone has the modules
		if err := os.Symlink(vendor, filepath.Join(clone, "vendor")); err != nil {
			t.Fatal(err)
		}
	}
	var listen net.ListenConfig
	free, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	// Built with the tests' cache and flags, so that the service's imports are already compiled.
	at := place{dir: clone, env: []string{"PASSBOOK_ADDR=" + addr, "GOFLAGS=" + strings.TrimSpace(goEnv(t, "GOFLAGS")+raceFlag())}}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOTOOLCHAIN"} {
		at.env = append(at.env, name+"="+goEnv(t, name))
	}
	d := read(t, filepath.Join(root, "docs", "tutorial.md"))
	const documented = "/tmp/passbook-tutorial"
	if !strings.Contains(string(d.source), documented) {
		t.Fatalf("%s does not name %s", d.path, documented)
	}
	d = parsed(d.path, []byte(strings.ReplaceAll(string(d.source), documented, data)))
	quickstart(t, d, "http://"+addr, at)
	if t.Failed() {
		said, err := os.ReadFile(filepath.Join(clone, "server.log"))
		t.Logf("output of the server (%v):\n%s", err, said)
	}
	// An added projection changes the schema, which all of Passbook's tests check.
	bash(t, "go test -count=1 -run '^TestTheServiceCannotMigrate$|^TestMigrate' ./internal/postgres", at)
}

// raceFlag returns -race if this test was built with it.
func raceFlag() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return " -race"
	}
	return ""
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// copyRepository copies the repository, without files made by tools.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, inside)
		switch {
		case slices.Contains(notOurs, entry.Name()):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // such as the .git of a worktree
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, info.Mode().Perm()|0o200)
	})
	if err != nil {
		t.Fatal(err)
	}
}
