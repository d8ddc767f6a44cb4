package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	socketPort = "5432" // part of the socket's name only
	socketName = ".s.PGSQL." + socketPort
	// maxSocketPath is the longest path of a socket on the strictest system (macOS; Linux allows 107).
	maxSocketPath = 103
)

// socketDirPath returns the directory of a cluster's socket: a short name derived from the cluster's path, which may
// itself be too long, in runtimeDir if the account can use it and the path fits, else in /tmp. A cluster always has the
// same socket directory.
func socketDirPath(clusterDir, runtimeDir string, acc account) (string, error) {
	hash := sha256.Sum256([]byte(clusterDir))
	name := "passbook-" + hex.EncodeToString(hash[:8])
	for _, base := range []string{runtimeDir, "/tmp"} {
		if base == "" {
			continue
		}
		base, err := filepath.EvalSymlinks(base)
		if err != nil || !filepath.IsAbs(base) {
			continue
		}
		info, err := os.Stat(base)
		if err != nil || !info.IsDir() || !acc.mayEnter(info) {
			continue
		}
		dir := filepath.Join(base, name)
		if len(filepath.Join(dir, socketName)) <= maxSocketPath {
			return dir, nil
		}
	}
	return "", errors.New("no place for the socket of the private PostgreSQL: /tmp cannot be used")
}

// makeSocketDir makes the directory, or reuses the one that an earlier process left. /tmp is open to all users, and another user
// could make the directory first and run a server there. So makeSocketDir accepts only a real directory that belongs to the
// account and is closed to all others. The sticky bit of /tmp then protects it.
func makeSocketDir(dir string, acc account) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		if acc.switched {
			return os.Lchown(dir, int(acc.uid), int(acc.gid))
		}
		return nil
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == 0 && acc.switched && info.IsDir() && info.Mode().Perm() == 0o700 {
		// Root made it and was interrupted before it could change the owner.
		return os.Lchown(dir, int(acc.uid), int(acc.gid))
	}
	if !info.IsDir() || owner != acc.uid || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("%s (%s, of user %s) is in the way of the socket of the private PostgreSQL, and not safe to use: "+
			"remove it", dir, info.Mode(), userName(owner))
	}
	return nil
}
