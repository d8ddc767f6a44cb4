package subject

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

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
