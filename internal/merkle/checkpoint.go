package merkle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says that the first Size events of the log have the tree hash Root.
type Checkpoint struct {
	Origin string // names the log; it is also the name of the keys
	Size   int64
	Root   tlog.Hash
}

// Text returns a checkpoint as it is signed, in the format of C2SP tlog-checkpoint.
func (c Checkpoint) Text() string { return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root) }

func (c Checkpoint) tree() tlog.Tree { return tlog.Tree{N: c.Size, Hash: c.Root} }

// ParseCheckpoint parses the text of a checkpoint, with or without signatures, which it does not check.
func ParseCheckpoint(text string) (c Checkpoint, err error) {
	text, _, _ = strings.Cut(text, "\n\n")
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] == "" {
		return c, errors.New("it does not have the three lines origin, size and hash")
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return c, fmt.Errorf("%q is not a number of events", lines[1])
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, fmt.Errorf("%q is not a hash", lines[2])
	}
	return c, nil
}

// Keys are the keys of a log, which share its name.
type Keys struct {
	Name      string
	signers   []note.Signer
	verifiers []note.Verifier
}

const privatePrefix = "PRIVATE+KEY+"

// ParseKeys parses keys as GenerateKey makes them, private or public, one a line. Checkpoints are signed with every private key
// and accepted with a signature of any key, so a log with several keys is changing from one to another. Empty lines, and lines that
// begin with #, are ignored. No error contains a key.
func ParseKeys(text string) (k Keys, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		public := line
		if strings.HasPrefix(line, privatePrefix) {
			signer, err := note.NewSigner(line)
			if err != nil {
				return Keys{}, errors.New("a line is a damaged private key")
			}
			k.signers = append(k.signers, signer)
			if public, err = publicOf(signer.Name(), line); err != nil {
				return Keys{}, err
			}
		}
		verifier, err := note.NewVerifier(public)
		if err != nil {
			return Keys{}, errors.New("a line is neither a private nor a public key, as server audit keygen makes them")
		}
		k.verifiers = append(k.verifiers, verifier)
		if k.Name == "" {
			k.Name = verifier.Name()
		}
		if k.Name != verifier.Name() {
			return Keys{}, fmt.Errorf("the keys have different names, %q and %q; those of one log have the same", k.Name, verifier.Name())
		}
	}
	if len(k.verifiers) == 0 {
		return Keys{}, errors.New("there is no key")
	}
	return k, nil
}

// publicOf returns the public key of a valid private one.
func publicOf(name, private string) (string, error) {
	// After the name come 8 digits of its hash.
	rest, ok := strings.CutPrefix(private, privatePrefix+name+"+")
	if !ok || len(rest) < 9 {
		return "", errors.New("a line is a damaged private key")
	}
	key, err := base64.StdEncoding.DecodeString(rest[9:])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", errors.New("a line is a damaged private key")
	}
	return note.NewEd25519VerifierKey(name, ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey))
}

// Private reports whether the keys can sign.
func (k Keys) Private() bool { return len(k.signers) > 0 }

// sign returns a checkpoint, signed with every private key.
func (k Keys) sign(c Checkpoint) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.Text()}, k.signers...)
}

// Open returns the checkpoint of a signed note. Open fails if no known key has signed, if a known key's signature is invalid, or if the
// checkpoint is of another log.
func (k Keys) Open(signed []byte) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(k.verifiers...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("its signature: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err == nil && c.Origin != k.Name {
		err = fmt.Errorf("it is of the log %q, and the key of %q", c.Origin, k.Name)
	}
	return c, err
}

// signedByAll reports whether every private key has signed.
func (k Keys) signedByAll(signed []byte) bool {
	for _, s := range k.signers {
		var own []note.Verifier
		for _, v := range k.verifiers {
			if v.KeyHash() == s.KeyHash() {
				own = append(own, v)
			}
		}
		if _, err := note.Open(signed, note.VerifierList(own...)); err != nil {
			return false
		}
	}
	return true
}

// SplitCheckpoints returns the signed checkpoints of a file that has one or several, with an empty line after each but the last. end is where
// the last complete one ends: a crash may leave a part of one behind it.
func SplitCheckpoints(file []byte) (signed [][]byte, end int) {
	for {
		rest := file[end:]
		text := bytes.Index(rest, []byte("\n\n"))
		if text < 0 {
			return signed, end
		}
		after := text + 2
		lines := after
		for bytes.HasPrefix(rest[lines:], []byte("— ")) {
			line := bytes.IndexByte(rest[lines:], '\n')
			if line < 0 {
				return signed, end // cut off
			}
			lines += line + 1
		}
		if lines == after {
			return signed, end
		}
		signed = append(signed, rest[:lines])
		if bytes.HasPrefix(rest[lines:], []byte("\n")) {
			lines++
		}
		end += lines
	}
}
