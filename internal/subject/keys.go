package subject

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sync/singleflight"
)

const (
	// A get that reads the database first refreshes the recent erasures (refreshErasures) if the last refresh is older than keyLease.
	keyLease = time.Second
	// keysTimeout limits a get, which a batch of commands waits for.
	keysTimeout = time.Second
	// Keys in memory are valid until maxAge after a refresh. The next one begins in the background after refreshEarly, so that nothing
	// waits for it.
	maxAge       = keyLease + keysTimeout
	refreshEarly = keyLease / 2
	// forgetAfter is how long after the last refreshErasures the keys in memory are forgotten. recent is how far back it goes: further, so
	// that an erasure that takes long to commit is not overlooked.
	forgetAfter = 20 * time.Second
	recent      = "1 minute"
	// cacheWait is how long a key may still be used elsewhere after its erasure.
	cacheWait = maxAge + keyLease/10
	// readAgain is the age at which a key in memory is read again, in case its erasure took longer than recent to commit.
	readAgain = 30 * time.Second
	// maxKeys is how many keys are kept in memory.
	maxKeys = 50_000
)

// wrapped is null once the key is destroyed. finished_position and finished_event are the head of the log when it was seen to have SubjectErased for every
// account.
const createSQL = `create table if not exists subject_keys (
    subject_id        uuid        not null primary key,
    wrapped           bytea,
    created_at        timestamptz not null default clock_timestamp(),
    erased_at         timestamptz,
    finished_position bigint,
    finished_event    uuid,
    constraint subject_keys_erased check ((wrapped is null) = (erased_at is not null))
);
alter table subject_keys add column if not exists finished_event uuid;
create index if not exists subject_keys_erasures on subject_keys (erased_at) where erased_at is not null;
create index if not exists subject_keys_unfinished on subject_keys (erased_at) where erased_at is not null and finished_position is null;
create index if not exists subject_keys_finished on subject_keys (finished_position) where finished_position is not null`

const (
	lockTablesSQL = `select pg_advisory_xact_lock(7018230149)`
	tablesSQL     = `select exists (select from pg_attribute where attrelid = to_regclass('subject_keys') and attname = 'finished_event'), to_regclass('events') is not null`
	sampleSQL     = `select subject_id, wrapped from subject_keys where wrapped is not null limit 1`
	selectKeysSQL = `select subject_id, wrapped from subject_keys where subject_id = any ($1)`
	insertKeysSQL = `insert into subject_keys (subject_id, wrapped) select * from unnest($1::uuid[], $2::bytea[]) on conflict do nothing`
	erasuresSQL   = `select subject_id from subject_keys where erased_at > clock_timestamp() - interval '` + recent + `'`
	existsSQL     = `select exists (select from subject_keys where subject_id = $1)`
	unfinishedSQL = `select subject_id, clock_timestamp() - erased_at from subject_keys where erased_at is not null and finished_position is null order by erased_at limit $1`
	finishedSQL   = `update subject_keys set finished_position = $2, finished_event = $3 where subject_id = $1 and finished_position is null`
	lastSQL       = `select subject_id, finished_position, finished_event from subject_keys where finished_position is not null order by finished_position desc limit 1`
	againSQL      = `update subject_keys set finished_position = null, finished_event = null where subject_id = $1`
	destroySQL    = `insert into subject_keys (subject_id, erased_at) select id, clock_timestamp() from unnest($1::uuid[]) as id
on conflict (subject_id) do update set wrapped = null, erased_at = excluded.erased_at, finished_position = null where subject_keys.erased_at is null`
	announceSQL = `update subject_keys set erased_at = clock_timestamp() where subject_id = $1 and erased_at < clock_timestamp() - interval '10 seconds'`
)

// MissingKeyError means that the database of keys has never had, or has lost, the key of a subject.
type MissingKeyError struct{ SubjectID uuid.UUID }

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("subject: the key of subject %s is missing: restore the latest backup of the subjects' keys", e.SubjectID)
}

// ErrDatabase is wrapped by the errors of the database of keys, together with their cause.
var ErrDatabase = errors.New("the database of the subjects' keys")

func databaseError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("subject: %s: %w: %w", what, ErrDatabase, err)
}

// ErrLogDatabase means that the keys would be in the database of the log.
var ErrLogDatabase = errors.New("PASSBOOK_SUBJECT_KEYS_DATABASE_URL names the database of the log, whose backups would then have the keys; name another one")

// Keys are the keys of subjects. It is safe for concurrent use.
type Keys struct {
	pool    *pgxpool.Pool
	wrapper Wrapper
	// readOnly is set on a follower, which makes no keys and needs only select on the table.
	readOnly bool

	refreshes singleflight.Group

	// mu is not held while the database is read.
	mu          sync.Mutex
	cache       *simplelru.LRU[uuid.UUID, cachedKey]
	refreshedAt time.Time // when the last successful refreshErasures began
	failedAt    time.Time // when the last failed one ended
	failure     error
}

type cachedKey struct {
	aead cipher.AEAD // nil for a destroyed key
	read time.Time   // when reading it began
}

// NewKeys returns the keys in a database. The caller closes the pool, and calls Prepare before the first use.
func NewKeys(pool *pgxpool.Pool, w Wrapper, readOnly bool) *Keys {
	cache, err := simplelru.NewLRU[uuid.UUID, cachedKey](maxKeys, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Keys{pool: pool, wrapper: w, readOnly: readOnly, cache: cache}
}

// Prepare creates the table if it is missing, and checks the master key. ErrLogDatabase and ErrMasterKey are mistakes in the settings.
func (k *Keys) Prepare(ctx context.Context) error {
	var there, isLog bool
	if err := k.pool.QueryRow(ctx, tablesSQL).Scan(&there, &isLog); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	if isLog {
		return ErrLogDatabase
	}
	if !there && !k.readOnly {
		if err := pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockTablesSQL); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, createSQL)
			return err
		}); err != nil {
			return fmt.Errorf("subject: create the table of keys: %w", err)
		}
	}
	var id uuid.UUID
	var box []byte
	err := k.pool.QueryRow(ctx, sampleSQL).Scan(&id, &box)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = k.wrapper.Unwrap(ctx, id, box)
	}
	if err != nil {
		return fmt.Errorf("subject: check the master key: %w", err)
	}
	return nil
}

// keys are keys of subjects. A destroyed one is found, and nil.
type keys struct {
	found map[uuid.UUID]cipher.AEAD
	// failed has the subjects whose keys cannot be had, with a *MissingKeyError or another reason.
	failed map[uuid.UUID]error
}

// errNotFetched means that a key is not in memory.
var errNotFetched = errors.New("subject: the key is not in memory")

// get returns the keys of subjects, within keysTimeout. If one was never made, get makes it, or fails for it if create is not set. While
// the database is unavailable, it returns the keys in memory until maxAge has passed.
func (k *Keys) get(ctx context.Context, ids []uuid.UUID, create bool) keys {
	all, missing := k.fromMemory(ids)
	if len(missing) == 0 {
		_, _, _ = k.refreshSoon()
		return all
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	err := k.refresh(ctx)
	if err == nil {
		missing, err = k.read(ctx, missing, all)
	}
	if err == nil && len(missing) > 0 && create && !k.readOnly {
		if err = k.make(ctx, missing); err == nil {
			missing, err = k.read(ctx, missing, all)
		}
	}
	for _, id := range missing {
		if all.failed[id] = err; err == nil {
			all.failed[id] = &MissingKeyError{id}
		}
	}
	return all
}

// lookUp is get for keys that exist. Without fetch it does not wait, and fails for those that are not in memory.
func (k *Keys) lookUp(ctx context.Context, ids []uuid.UUID, fetch bool) keys {
	if fetch {
		return k.get(ctx, ids, false)
	}
	all, missing := k.fromMemory(ids)
	for _, id := range missing {
		all.failed[id] = errNotFetched
	}
	return all
}

// fromMemory returns the keys in memory, and the ids of the others. It does not wait.
func (k *Keys) fromMemory(ids []uuid.UUID) (all keys, missing []uuid.UUID) {
	all = keys{make(map[uuid.UUID]cipher.AEAD, len(ids)), make(map[uuid.UUID]error)}
	k.mu.Lock()
	defer k.mu.Unlock()
	valid := time.Since(k.refreshedAt) < maxAge
	for _, id := range ids {
		if _, ok := all.found[id]; ok {
			continue
		}
		if key, ok := k.cache.Get(id); ok && valid && (key.aead == nil || time.Since(key.read) < readAgain) {
			all.found[id] = key.aead
		} else {
			missing = append(missing, id)
		}
	}
	slices.SortFunc(missing, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return all, slices.Compact(missing)
}

// refresh returns once a refreshErasures that began within keyLease has succeeded.
func (k *Keys) refresh(ctx context.Context) error {
	done, age, failure := k.refreshSoon()
	if age < keyLease {
		return nil
	}
	if failure != nil {
		return failure
	}
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return databaseError("read the recent erasures", ctx.Err())
	}
}

// refreshSoon begins a refreshErasures in the background if one is due and none is running, and returns what reports its outcome. It
// returns the age of the last one and, for some time after one has failed, why: so not every batch waits for a database that does not
// respond.
func (k *Keys) refreshSoon() (done <-chan singleflight.Result, age time.Duration, failure error) {
	k.mu.Lock()
	age = time.Since(k.refreshedAt)
	if time.Since(k.failedAt) < keyLease {
		failure = k.failure
	}
	k.mu.Unlock()
	if age < refreshEarly || failure != nil {
		return nil, age, failure
	}
	return k.refreshes.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
		defer cancel()
		return nil, k.refreshErasures(ctx)
	}), age, nil
}

// refreshErasures marks the recently erased subjects in memory.
func (k *Keys) refreshErasures(ctx context.Context) error {
	began := time.Now()
	rows, _ := k.pool.Query(ctx, erasuresSQL) // CollectRows returns the error
	erased, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.failedAt, k.failure = time.Now(), databaseError("read the recent erasures", err)
		return k.failure
	}
	if began.Sub(k.refreshedAt) > forgetAfter {
		k.cache.Purge()
	}
	for _, id := range erased {
		k.cache.Add(id, cachedKey{})
	}
	k.refreshedAt, k.failedAt = began, time.Time{}
	return nil
}

// read adds keys in the database to all, and returns the ids of the others.
func (k *Keys) read(ctx context.Context, ids []uuid.UUID, all keys) (missing []uuid.UUID, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	began := time.Now()
	rows, _ := k.pool.Query(ctx, selectKeysSQL, ids) // CollectRows returns the error
	stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s storedKey, err error) { return s, row.Scan(&s.id, &s.wrapped) })
	if err != nil {
		return ids, databaseError("read keys", err)
	}
	for _, s := range stored {
		if all.found[s.id], err = k.unwrap(ctx, s); err != nil {
			delete(all.found, s.id)
			all.failed[s.id] = fmt.Errorf("subject: the key of subject %s: %w", s.id, err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		aead, ok := all.found[id]
		// A refresh that began later may have marked the key, which the rows have as it was before. Then it is read again next time.
		if ok && !began.Before(k.refreshedAt) {
			k.cache.Add(id, cachedKey{aead, began})
		}
		if !ok && all.failed[id] == nil {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// unwrap returns a stored key, nil for a destroyed one.
func (k *Keys) unwrap(ctx context.Context, s storedKey) (cipher.AEAD, error) {
	if s.wrapped == nil {
		return nil, nil
	}
	key, err := k.wrapper.Unwrap(ctx, s.id, s.wrapped)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(key)
}

type storedKey struct {
	id      uuid.UUID
	wrapped []byte
}

// make makes the keys of subjects that have none. A subject whose key another instance has made meanwhile keeps that.
func (k *Keys) make(ctx context.Context, ids []uuid.UUID) error {
	boxes := make([][]byte, len(ids))
	for i, id := range ids {
		key := make([]byte, chacha20poly1305.KeySize)
		_, _ = rand.Read(key) // never fails
		var err error
		if boxes[i], err = k.wrapper.Wrap(ctx, id, key); err != nil {
			return fmt.Errorf("subject: wrap the key of subject %s: %w", id, err)
		}
	}
	_, err := k.pool.Exec(ctx, insertKeysSQL, ids, boxes)
	return databaseError("store keys", err)
}

// Destroy destroys the keys of subjects, durably, and marks the subjects so that they never get another one.
func (k *Keys) Destroy(ctx context.Context, ids ...uuid.UUID) error {
	if _, err := k.pool.Exec(ctx, destroySQL, ids); err != nil {
		return databaseError("destroy keys", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		k.cache.Add(id, cachedKey{})
	}
	return nil
}

// exists reports whether a subject has, or had, a key.
func (k *Keys) exists(ctx context.Context, id uuid.UUID) (exists bool, err error) {
	err = k.pool.QueryRow(ctx, existsSQL, id).Scan(&exists)
	return exists, databaseError("look for the key", err)
}

// waitForCaches waits until no instance uses the destroyed key of a subject any more. An erasure that has become visible only long after
// its time, because its commit was slow, gets a new time, so that refreshErasures finds it.
func (k *Keys) waitForCaches(ctx context.Context, id uuid.UUID) error {
	for announced := true; announced; {
		tag, err := k.pool.Exec(ctx, announceSQL, id)
		if err != nil {
			return databaseError("announce the erasure", err)
		}
		announced = tag.RowsAffected() > 0
	}
	timer := time.NewTimer(cacheWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func wrapError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("subject: %s: %w", what, err)
}
