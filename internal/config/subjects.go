package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Subjects are the settings about the keys that personal text is sealed under.
type Subjects struct {
	// MasterKeys, of 32 bytes each, are none if personal text is not sealed. The first wraps the subjects' keys, all unwrap.
	MasterKeys [][]byte
	// KeysDatabaseURL is where the subjects' keys are.
	KeysDatabaseURL string
}

// subjectSettings are the settings that Subjects is made from.
type subjectSettings struct{ masterKeyFile, keysDatabaseURL, keysDatabaseURLFile *setting }

func (s *Settings) addSubjects(add func(env, flag, fallback, shown, usage string) *setting) {
	s.masterKeyFile = add("PASSBOOK_SUBJECT_MASTER_KEY_FILE", "subject-master-key-file", "", "personal text is not sealed",
		"file of the master key, 32 random bytes in hex or base64, under whose keys personal text in events is sealed; to change it, one a line")
	s.keysDatabaseURL = add("PASSBOOK_SUBJECT_KEYS_DATABASE_URL", "subject-keys-database-url", "", "none",
		"PostgreSQL database of the subjects' keys, which must not be that of the log")
	s.keysDatabaseURLFile = add("PASSBOOK_SUBJECT_KEYS_DATABASE_URL_FILE", "subject-keys-database-url-file", "", "none",
		"file to read PASSBOOK_SUBJECT_KEYS_DATABASE_URL from")
}

// loadSubjects parses the settings about subjects, and calls wrong for each that is invalid.
func (s *Settings) loadSubjects(wrong func(one *setting, format string, args ...any)) (c Subjects) {
	c.KeysDatabaseURL = s.secret(s.keysDatabaseURL, s.keysDatabaseURLFile, wrong)
	if _, err := pgxpool.ParseConfig(c.KeysDatabaseURL); c.KeysDatabaseURL != "" && err != nil {
		wrong(s.keysDatabaseURL, "not a PostgreSQL connection string: %v", err)
	}
	path := s.get(s.masterKeyFile)
	switch {
	case path == "" && c.KeysDatabaseURL != "":
		wrong(s.keysDatabaseURL, "needs PASSBOOK_SUBJECT_MASTER_KEY_FILE too")
	case path != "" && c.KeysDatabaseURL == "":
		wrong(s.masterKeyFile, "needs PASSBOOK_SUBJECT_KEYS_DATABASE_URL too: the keys live in a database of their own, so that a backup of the log does not have them")
	}
	if path != "" {
		var err error
		if c.MasterKeys, err = readMasterKeys(path); err != nil {
			wrong(s.masterKeyFile, "%v", err)
		}
	}
	return c
}

// readMasterKeys reads keys of 32 random bytes, in hex or base64, one a line, from a file that only its owner may read. Empty lines, and
// lines that begin with #, are ignored. No error contains a key.
func readMasterKeys(path string) (keys [][]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o; only its owner may read it, so make it 0600", path, mode)
	}
	text, err := os.ReadFile(path) //nolint:gosec // named by a setting
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil {
			key, err = base64.StdEncoding.DecodeString(line)
		}
		const size = 32
		if err != nil || len(key) != size {
			return nil, fmt.Errorf("%s must contain 32 random bytes a line in hex or base64, such as openssl rand -hex 32 makes", path)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key; it must contain 32 random bytes in hex or base64, such as openssl rand -hex 32 makes", path)
	}
	return keys, nil
}
