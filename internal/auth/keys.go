package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"
)

// Limits of the keys in memory. Keys in use are read again every refreshEvery, all with one statement; a key read longer
// than maxAge ago is not trusted, so a revoked key works for at most maxAge.
const (
	refreshEvery = time.Second
	maxAge       = 5 * time.Second
	// queryTimeout limits one query of one database.
	queryTimeout = time.Second
	// maxEntries and maxAbsent are how many keys, and how many unknown ids, are remembered.
	maxEntries = 10_000
	maxAbsent  = 10_000
	// writeEvery is how often the time of a key's last use is written.
	writeEvery = time.Minute
)

// KeysConfig configures Keys. Fields are required unless they say otherwise.
type KeysConfig struct {
	// Databases are queried in order, the next when one is unavailable: the primary, then perhaps a replica.
	Databases []*pgxpool.Pool
	// Unavailable reports whether an error means that the database is unavailable.
	Unavailable func(error) bool
	// Ready reports whether the database's schema is in place; until then Authenticate returns ErrNotReady. It may be nil.
	Ready  func() bool
	Logger *slog.Logger
}

// Keys authenticates callers by the keys in the database. It is safe for concurrent use. A key that was used a moment ago is
// checked in memory, which Run keeps up to date.
type Keys struct {
	databases   []*pgxpool.Pool
	unavailable func(error) bool
	ready       func() bool
	log         *slog.Logger
	began       time.Time

	entries *lru.Cache[string, *entry]
	absent  *lru.Cache[string, int64] // unknown ids, with the time of the query
	queries singleflight.Group
}

// entry is a key in use. Times are nanoseconds since Keys.began.
type entry struct {
	hash   [sha256.Size]byte
	caller *Caller
	// readAt is when it was last read from the database.
	readAt atomic.Int64
	// usedAt is the last use, and written the last use that was written to the database; only Run uses written.
	usedAt  atomic.Int64
	written int64
}

// NewKeys returns Keys that use pools which the caller closes.
func NewKeys(c KeysConfig) (*Keys, error) {
	if len(c.Databases) == 0 || c.Unavailable == nil || c.Logger == nil {
		return nil, errors.New("auth: Databases, Unavailable and Logger are needed")
	}
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	// They fail only if a size is not positive.
	entries, _ := lru.New[string, *entry](maxEntries)
	absent, _ := lru.New[string, int64](maxAbsent)
	return &Keys{
		databases: c.Databases, unavailable: c.Unavailable, ready: c.Ready, log: c.Logger, began: time.Now(),
		entries: entries, absent: absent,
	}, nil
}

func (k *Keys) now() int64 { return int64(time.Since(k.began)) }

// Authenticate returns the caller that the key belongs to. It fails with ErrBadCredential, with ErrNotReady, or, if no database
// is available, with the error of the first, wrapped.
func (k *Keys) Authenticate(ctx context.Context, credential string) (*Caller, error) {
	id, secret, ok := parseKey(credential)
	if !ok {
		return nil, ErrBadCredential
	}
	e, err := k.find(ctx, id)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], e.hash[:]) != 1 {
		return nil, ErrBadCredential
	}
	// Storing it every few hundred milliseconds is enough, and avoids contention between processors.
	if now, used := k.now(), e.usedAt.Load(); used == 0 || now-used > int64(refreshEvery/4) {
		e.usedAt.Store(now)
	}
	return e.caller, nil
}

// NeedsDatabase reports whether Authenticate would have to query a database.
func (k *Keys) NeedsDatabase(credential string) bool {
	id, _, ok := parseKey(credential)
	if !ok {
		return false
	}
	now := k.now()
	if e, known := k.entries.Peek(id); known && now-e.readAt.Load() < int64(maxAge) {
		return false
	}
	since, absent := k.absent.Peek(id)
	return !absent || now-since >= int64(refreshEvery)
}

// find returns a key that is in use, from memory or from a database.
func (k *Keys) find(ctx context.Context, id string) (*entry, error) {
	now := k.now()
	if e, ok := k.entries.Get(id); ok && now-e.readAt.Load() < int64(maxAge) {
		return e, nil
	}
	if since, ok := k.absent.Get(id); ok && now-since < int64(refreshEvery) {
		return nil, ErrBadCredential
	}
	if !k.ready() {
		return nil, ErrNotReady
	}
	// Callers that wait for the same key share the query, and none of them cancels it for the others.
	shared := k.queries.DoChan(id, func() (any, error) {
		return nil, k.refresh(context.WithoutCancel(ctx), []string{id})
	})
	select {
	case result := <-shared:
		if result.Err != nil {
			return nil, result.Err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e, ok := k.entries.Get(id); ok {
		return e, nil
	}
	return nil, ErrBadCredential
}

// keyRow is a key that is in use.
type keyRow struct {
	ID, Name string
	Hash     []byte
	Scopes   []string
}

const selectKeys = `SELECT id, name, hash, scopes FROM api_keys WHERE id = ANY ($1) AND revoked_at IS NULL`

// refresh reads keys from the first available database, and forgets those that are no longer in use.
func (k *Keys) refresh(ctx context.Context, ids []string) error {
	now := k.now()
	rows, err := k.read(ctx, ids)
	if err != nil {
		return err
	}
	found := make(map[string]bool, len(rows))
	for i := range rows {
		found[rows[i].ID] = true
		k.remember(&rows[i], now)
	}
	for _, id := range ids {
		if !found[id] {
			k.entries.Remove(id)
			k.absent.Add(id, now)
		}
	}
	return nil
}

func (k *Keys) read(ctx context.Context, ids []string) ([]keyRow, error) {
	var first error
	for _, database := range k.databases {
		ask, cancel := context.WithTimeout(ctx, queryTimeout)
		rows, _ := database.Query(ask, selectKeys, ids) // the rows return its error
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keyRow])
		cancel()
		if err == nil {
			return all, nil
		}
		if first == nil {
			first = fmt.Errorf("auth: read keys: %w", err)
		}
		if !k.unavailable(err) {
			break
		}
	}
	return nil, first
}

func (k *Keys) remember(row *keyRow, now int64) {
	hash, scopes := [sha256.Size]byte(row.Hash), scopesOf(row.Scopes)
	if e, ok := k.entries.Peek(row.ID); ok && e.hash == hash && e.caller.Scopes == scopes {
		e.readAt.Store(now)
		return
	}
	id := "key:" + row.ID
	e := &entry{hash: hash, caller: &Caller{ID: id, Actor: id + " " + row.Name, Scopes: scopes}}
	e.readAt.Store(now)
	k.entries.Add(row.ID, e)
}

// Run keeps the keys in use up to date and writes when they were last used, until ctx ends; then it writes that a last
// time. It retries while the database is unavailable.
func (k *Keys) Run(ctx context.Context) error {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
			defer cancel()
			k.writeUses(last, 0)
			return nil
		case <-ticker.C:
			k.RunOnce(ctx)
		}
	}
}

// RunOnce does what Run does every second: it reads the keys that were used within maxAge, and writes last uses.
func (k *Keys) RunOnce(ctx context.Context) {
	var ids []string
	now := k.now()
	for _, id := range k.entries.Keys() {
		if e, ok := k.entries.Peek(id); ok && now-e.usedAt.Load() < int64(maxAge) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		k.logFailure(ctx, "reading the keys in use failed; retrying in a second", k.refresh(ctx, ids))
	}
	k.writeUses(ctx, writeEvery)
}

// logFailure logs an error, unless it is a cancellation or an unavailable database, which is logged elsewhere.
func (k *Keys) logFailure(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && !k.unavailable(err) {
		k.log.Error(what, "error", err)
	}
}

// Times are by the database's clock. They never go back, although several instances write them.
const updateUses = `
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, now() - make_interval(secs => u.ago))
  FROM unnest($1::text[], $2::float8[]) AS u(id, ago)
 WHERE k.id = u.id`

// writeUses writes the last uses of the keys whose last use was not written within a given time.
func (k *Keys) writeUses(ctx context.Context, notSince time.Duration) {
	var (
		ids  []string
		ago  []float64
		uses []func()
	)
	now := k.now()
	for _, id := range k.entries.Keys() {
		e, ok := k.entries.Peek(id)
		if !ok {
			continue
		}
		used := e.usedAt.Load()
		if used <= e.written || e.written > 0 && used-e.written < int64(notSince) {
			continue
		}
		ids, ago = append(ids, id), append(ago, time.Duration(now-used).Seconds())
		uses = append(uses, func() { e.written = used })
	}
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if _, err := k.databases[0].Exec(ctx, updateUses, ids, ago); err != nil {
		k.logFailure(ctx, "writing the last use of keys failed; retrying in a second", err)
		return
	}
	for _, done := range uses {
		done()
	}
}
