package config

import (
	"net/url"
	"os"
	"path/filepath"

	"passbook/internal/merkle"
)

// Signing is the settings about signed checkpoints of the log.
type Signing struct {
	// Keys sign; without a private one among them, nothing is signed.
	Keys merkle.Keys
	// CheckpointFile is where checkpoints are written too; it may be empty.
	CheckpointFile string
	// CheckpointURL is where checkpoints are posted to; it may be empty, and may contain a password.
	CheckpointURL string
}

// signingSettings are the settings that Signing is made from.
type signingSettings struct{ signingKeyFile, checkpointFile, checkpointURL, checkpointURLFile *setting }

func (s *Settings) addSigning(add func(env, flag, fallback, shown, usage string) *setting) {
	s.signingKeyFile = add("PASSBOOK_SIGNING_KEY_FILE", "signing-key-file", "", "the log is not signed",
		"file of the key that signs checkpoints of the log, as server audit keygen makes it")
	s.checkpointFile = add("PASSBOOK_CHECKPOINT_FILE", "checkpoint-file", "", "none",
		"file that each signed checkpoint is appended to, best on another machine's disk")
	s.checkpointURL = add("PASSBOOK_CHECKPOINT_URL", "checkpoint-url", "", "none",
		"URL that signed checkpoints are posted to as text, the latest one every 10 s")
	s.checkpointURLFile = add("PASSBOOK_CHECKPOINT_URL_FILE", "checkpoint-url-file", "", "none",
		"file to read PASSBOOK_CHECKPOINT_URL from")
}

// loadSigning parses the settings about signing, and calls wrong for each that is invalid.
func (s *Settings) loadSigning(wrong func(one *setting, format string, args ...any)) (signing Signing) {
	path := s.get(s.signingKeyFile)
	if file := s.get(s.checkpointFile); file != "" {
		var err error
		if signing.CheckpointFile, err = filepath.Abs(file); err != nil {
			wrong(s.checkpointFile, "%v", err)
		}
		if path == "" {
			wrong(s.checkpointFile, "checkpoints are signed only with a PASSBOOK_SIGNING_KEY_FILE, and there is none")
		}
	}
	if signing.CheckpointURL = s.secret(s.checkpointURL, s.checkpointURLFile, wrong); signing.CheckpointURL != "" {
		u, err := url.Parse(signing.CheckpointURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			wrong(s.checkpointURL, "not an http:// or https:// URL")
		} else if path == "" {
			wrong(s.checkpointURL, "checkpoints are signed only with a PASSBOOK_SIGNING_KEY_FILE, and there is none")
		}
	}
	if path == "" {
		return signing
	}
	text, err := os.ReadFile(path) //nolint:gosec // named by the operator
	if err != nil {
		wrong(s.signingKeyFile, "%v", err)
		return signing
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		wrong(s.signingKeyFile, "%s has mode %04o; only its owner may read it, so make it 0600", path, info.Mode().Perm())
	}
	if same(path, signing.CheckpointFile) {
		wrong(s.checkpointFile, "%s is the file of the signing key; name another", path)
	}
	if signing.Keys, err = merkle.ParseKeys(string(text)); err != nil {
		wrong(s.signingKeyFile, "%s: %v", path, err)
	} else if !signing.Keys.Private() {
		wrong(s.signingKeyFile, "%s has no private key, which begins with PRIVATE+KEY+", path)
	}
	return signing
}

// same reports whether two paths lead to one file.
func same(one, other string) bool {
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
}
