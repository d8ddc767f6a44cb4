package subject

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"
)

// Wrapper encrypts the keys of subjects under a master key: one from a file (MasterKey), or one in a key management service.
type Wrapper interface {
	// Wrap returns the key of a subject, encrypted. Only Unwrap with the same subject decrypts it.
	Wrap(ctx context.Context, id uuid.UUID, key []byte) ([]byte, error)
	// Unwrap is the inverse of Wrap.
	Unwrap(ctx context.Context, id uuid.UUID, wrapped []byte) ([]byte, error)
}

// ErrMasterKey means that a key was wrapped by another master key, or is damaged.
var ErrMasterKey = errors.New("subject: the master key is not the one that the subjects' keys are wrapped with")

// MasterKey is a Wrapper with a master key in memory.
type MasterKey struct {
	aead cipher.AEAD
	id   [4]byte // the first bytes of the master key's hash
}

// ReadMasterKey reads a master key from a file: 32 random bytes in hex or base64, which only its owner may read.
func ReadMasterKey(path string) (*MasterKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o; only its owner may read it, so make it 0600", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path) //nolint:gosec // named by a setting
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	key, err := hex.DecodeString(string(text))
	if err != nil {
		key, err = base64.StdEncoding.DecodeString(string(text))
	}
	if err != nil || len(key) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%s must contain 32 random bytes in hex or base64, such as openssl rand -hex 32 makes", path)
	}
	return NewMasterKey(key)
}

// NewMasterKey returns a Wrapper for a key of 32 bytes.
func NewMasterKey(key []byte) (*MasterKey, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("subject: master key: %w", err)
	}
	m := &MasterKey{aead: aead}
	sum := sha256.Sum256(append([]byte("passbook master key "), key...))
	copy(m.id[:], sum[:])
	return m, nil
}

// Wrap implements Wrapper.
func (m *MasterKey) Wrap(_ context.Context, id uuid.UUID, key []byte) ([]byte, error) {
	return seal(m.aead, m.id[:], key, wrapped(id)), nil
}

// Unwrap implements Wrapper.
func (m *MasterKey) Unwrap(_ context.Context, id uuid.UUID, box []byte) ([]byte, error) {
	if !bytes.HasPrefix(box, m.id[:]) {
		return nil, ErrMasterKey
	}
	key, err := open(m.aead, box[len(m.id):], wrapped(id))
	if err != nil {
		return nil, ErrMasterKey
	}
	return key, nil
}

func wrapped(id uuid.UUID) []byte { return append([]byte("passbook subject key v1 "), id[:]...) }

// seal appends a nonce and the encrypted text to dst.
func seal(aead cipher.AEAD, dst, text, associated []byte) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce) // never fails
	return aead.Seal(append(dst, nonce...), nonce, text, associated)
}

var errBox = errors.New("the box is damaged")

// open is the inverse of seal.
func open(aead cipher.AEAD, box, associated []byte) ([]byte, error) {
	if len(box) < chacha20poly1305.NonceSizeX {
		return nil, errBox
	}
	text, err := aead.Open(nil, box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:], associated)
	if err != nil {
		return nil, errBox
	}
	return text, nil
}
