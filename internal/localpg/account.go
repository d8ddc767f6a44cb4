package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating-system user that initdb and postgres run as. Both refuse to run as root.
type account struct {
	uid, gid uint32
	name     string
	switched bool // the process itself runs as root and must change to this user
}

// attr are the process attributes that make a child run as the account.
func (a account) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// chooseAccount returns the current user or, as root, the owner of existing data, else the first existing one of
// the users postgres and nobody.
func chooseAccount(clusterDir string) (account, error) {
	owner, exists, err := ownerOf(clusterDir)
	if err != nil {
		return account{}, err
	}
	if euid := os.Geteuid(); euid != 0 {
		if exists && owner.uid != uint32(euid) {
			return account{}, fmt.Errorf("%s belongs to user %s: run as that user, or use another PASSBOOK_DATA_DIR",
				clusterDir, owner.name)
		}
		return account{uid: uint32(euid), gid: uint32(os.Getegid()), name: userName(uint32(euid))}, nil
	}
	if exists && owner.uid != 0 {
		return owner, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{uid: uint32(uid), gid: uint32(gid), name: name, switched: true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root and this system has neither a user postgres " +
		"nor a user nobody to run it as: add one, or run Passbook as an ordinary user")
}

// ownerOf returns the owner of path, and whether path exists.
func ownerOf(path string) (account, bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return account{}, false, nil
	}
	if err != nil {
		return account{}, false, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return account{uid: st.Uid, gid: st.Gid, name: userName(st.Uid), switched: os.Geteuid() == 0}, true, nil
}

// userName returns the name of a user id, or the id itself if it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// checkReachable checks that the account can enter dir, which exists and belongs to it. If it cannot, the error names
// the parent that is in the way.
func (a account) checkReachable(dir string, probe func(dir string) error) error {
	err := probe(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if info, statErr := os.Stat(parent); statErr == nil && !a.mayEnter(info) {
			err = fmt.Errorf("the private PostgreSQL runs as user %s, which may not enter %s (mode %04o): "+
				"run `chmod o+x %s`, or set PASSBOOK_DATA_DIR to a directory that user can reach, such as /var/lib/passbook",
				a.name, parent, info.Mode().Perm(), parent)
		}
		if parent == filepath.Dir(parent) {
			return err
		}
	}
}

// mayEnter reports by owner and mode whether the account may enter a directory. It ignores access lists: it only serves
// to name what is in the way after entering has failed.
func (a account) mayEnter(info fs.FileInfo) bool {
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case st.Uid == a.uid:
		return info.Mode()&0o100 != 0
	case st.Gid == a.gid:
		return info.Mode()&0o010 != 0
	default:
		return info.Mode()&0o001 != 0
	}
}
