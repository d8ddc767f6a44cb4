package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	// ErrNameTaken means that a key with this name is in use.
	ErrNameTaken = errors.New("a key with this name is in use")
	// ErrBadName means that a name is empty, too long, or has unprintable characters.
	ErrBadName = fmt.Errorf("a name has 1 to %d printable characters", maxName)
	// ErrNoScopes means that a key would allow nothing.
	ErrNoScopes = errors.New("a key needs a scope")
	// ErrUnknownKey means that no key in use has this id or name.
	ErrUnknownKey = errors.New("no key in use has this id or name")
	// ErrNoSchema means that the database has no table of keys yet.
	ErrNoSchema = errors.New("the database has no table of keys yet")
)

// A key is "pbk_", its id, "_" and its secret: the prefix lets secret scanners find published keys, and a double
// click selects all characters as one word.
const (
	keyPrefix   = "pbk_"
	idBytes     = 10
	secretBytes = 32
	idLen       = 16 // of idBytes in base32
	secretLen   = 52 // of secretBytes in base32
	keyLen      = len(keyPrefix) + idLen + 1 + secretLen

	maxName = 100
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// parseKey splits a key; ok is false if the text does not have the form of one.
func parseKey(text string) (id, secret string, ok bool) {
	if len(text) != keyLen || !strings.HasPrefix(text, keyPrefix) || text[len(keyPrefix)+idLen] != '_' {
		return "", "", false
	}
	id, secret = text[len(keyPrefix):len(keyPrefix)+idLen], text[len(keyPrefix)+idLen+1:]
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", "", false
		}
	}
	return id, secret, true
}

// Key describes a key, without its secret.
type Key struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"`
	// LastUsedAt is accurate to about a minute; nil if the key was never used.
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
}

// Store creates, lists and revokes the keys in the database.
type Store struct{ pool *pgxpool.Pool }

// NewStore returns a Store that uses a pool which the caller closes.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool} }

const (
	insertKey = `INSERT INTO api_keys (id, name, hash, scopes) VALUES ($1, $2, $3, $4) RETURNING created_at`
	listKeys  = `SELECT id, name, scopes, created_at, last_used_at, revoked_at FROM api_keys ORDER BY created_at, id`
	// A key in use is found by its id, and only where there is none by its name.
	revokeKey = `
UPDATE api_keys SET revoked_at = now()
 WHERE revoked_at IS NULL
   AND id = coalesce((SELECT k.id FROM api_keys k WHERE k.id = $1 AND k.revoked_at IS NULL),
                     (SELECT k.id FROM api_keys k WHERE k.name = $1 AND k.revoked_at IS NULL))
RETURNING id, name, scopes, created_at, last_used_at, revoked_at`
)

// Create makes a key and returns it with its text, which cannot be read again. The name is for people; it fails with
// ErrNameTaken if another key in use has it.
func (s *Store) Create(ctx context.Context, name string, scopes Scopes) (key Key, text string, err error) {
	if !validName(name) {
		return Key{}, "", ErrBadName
	}
	if scopes == 0 {
		return Key{}, "", ErrNoScopes
	}
	random := make([]byte, idBytes+secretBytes)
	_, _ = rand.Read(random) // never fails: without randomness the program ends
	key = Key{ID: letters.EncodeToString(random[:idBytes]), Name: name, Scopes: scopes.list()}
	secret := letters.EncodeToString(random[idBytes:])
	hash := sha256.Sum256([]byte(secret))
	err = s.pool.QueryRow(ctx, insertKey, key.ID, name, hash[:], key.Scopes).Scan(&key.CreatedAt)
	var failed *pgconn.PgError
	if errors.As(err, &failed) && failed.ConstraintName == "api_keys_name" {
		return Key{}, "", ErrNameTaken
	}
	if err != nil {
		return Key{}, "", fmt.Errorf("auth: create a key: %w", withoutSchema(err))
	}
	return key, keyPrefix + key.ID + "_" + secret, nil
}

func validName(name string) bool {
	if n := utf8.RuneCountInString(name); n == 0 || n > maxName || !utf8.ValidString(name) || strings.TrimSpace(name) != name {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// List returns all keys, revoked ones included, oldest first.
func (s *Store) List(ctx context.Context) ([]Key, error) {
	rows, _ := s.pool.Query(ctx, listKeys) // the rows return its error
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
	if err != nil {
		return nil, fmt.Errorf("auth: list the keys: %w", withoutSchema(err))
	}
	return all, nil
}

// Revoke ends a key, named by its id or its name, permanently. It fails with ErrUnknownKey if no key in use has either.
func (s *Store) Revoke(ctx context.Context, idOrName string) (Key, error) {
	rows, _ := s.pool.Query(ctx, revokeKey, idOrName) // the rows return its error
	key, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Key])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Key{}, ErrUnknownKey
	case err != nil:
		return Key{}, fmt.Errorf("auth: revoke a key: %w", withoutSchema(err))
	}
	return key, nil
}

// withoutSchema returns the error, or ErrNoSchema if the table is missing.
func withoutSchema(err error) error {
	const undefinedTable = "42P01"
	var failed *pgconn.PgError
	if errors.As(err, &failed) && failed.Code == undefinedTable {
		return ErrNoSchema
	}
	return err
}
