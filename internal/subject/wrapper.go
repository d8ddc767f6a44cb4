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

// MasterKey is a Wrapper with master keys in memory: the first wraps, all unwrap. So several are a change from one to another.
type MasterKey struct{ keys []masterKey }

type masterKey struct {
	aead cipher.AEAD
	id   [4]byte // the first bytes of the master key's hash
}

// NewMasterKey returns a Wrapper for keys of 32 bytes, of which there must be one at least.
func NewMasterKey(keys ...[]byte) (*MasterKey, error) {
	m := new(MasterKey)
	for _, key := range keys {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, fmt.Errorf("subject: master key: %w", err)
		}
		sum := sha256.Sum256(append([]byte("passbook master key "), key...))
		m.keys = append(m.keys, masterKey{aead, [4]byte(sum[:4])})
	}
	if len(m.keys) == 0 {
		return nil, errors.New("subject: there is no master key")
	}
	return m, nil
}

// Wrap implements Wrapper.
func (m *MasterKey) Wrap(_ context.Context, id uuid.UUID, key []byte) ([]byte, error) {
	first := &m.keys[0]
	return seal(first.aead, first.id[:], key, wrapped(id)), nil
}

// Unwrap implements Wrapper.
func (m *MasterKey) Unwrap(_ context.Context, id uuid.UUID, box []byte) ([]byte, error) {
	for i := range m.keys {
		if k := &m.keys[i]; bytes.HasPrefix(box, k.id[:]) {
			if key, err := open(k.aead, box[len(k.id):], wrapped(id)); err == nil {
				return key, nil
			}
		}
	}
	return nil, ErrMasterKey
}

// byFirst reports whether the first master key has wrapped a box.
func (m *MasterKey) byFirst(box []byte) bool { return bytes.HasPrefix(box, m.keys[0].id[:]) }

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
