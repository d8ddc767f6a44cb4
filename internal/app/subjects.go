package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/httpapi"
	"passbook/internal/postgres"
	"passbook/internal/subject"
)

// subjects seals personal text in the log, and opens it. It is nil if that is off.
type subjects struct {
	pool   *pgxpool.Pool
	keys   *subject.Keys
	eraser *subject.Eraser // nil on a follower
}

// newSubjects returns nil if sealing is off.
func (a *app) newSubjects(ctx context.Context, cfg config.Config) (*subjects, error) {
	if len(cfg.MasterKeys) == 0 {
		return nil, nil
	}
	master, err := subject.NewMasterKey(cfg.MasterKeys...)
	if err != nil {
		return nil, err
	}
	pool, err := a.pool(ctx, cfg.KeysDatabaseURL, "passbook keys", 4, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &subjects{pool: pool, keys: subject.NewKeys(pool, master, cfg.FollowURL != "")}, nil
}

// log returns the log in a pool's database, in plain text.
func (s *subjects) log(pool *pgxpool.Pool) *eventstore.Store {
	store := eventstore.New(pool)
	if s == nil {
		return store
	}
	return store.Coded(subject.NewCodec(s.keys))
}

// writeLog is log for the write side: events whose text does not open fail only the commands that concern their account.
func (s *subjects) writeLog(pool *pgxpool.Pool) *eventstore.Store {
	if s == nil {
		return eventstore.New(pool)
	}
	return eventstore.New(pool).Coded(subject.NewCodec(s.keys).PerEvent())
}

// addEraser adds what erases subjects, and returns it; nil if sealing is off, and on a follower.
func (a *app) addEraser(cfg config.Config, primary *pgxpool.Pool, commands subject.Commands, registry prometheus.Registerer) httpapi.Subjects {
	if a.subjects == nil || cfg.FollowURL != "" {
		return nil
	}
	a.subjects.eraser = subject.NewEraser(a.subjects.keys, primary, commands, postgres.IsUnavailable, cfg.Log)
	a.workers = append(a.workers, a.subjects.eraser.Run)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "passbook_erasures_oldest_unfinished_seconds",
		Help: "Age of the oldest erasure that is not finished; 0 if all are. Each takes a minute.",
	}, func() float64 { return a.subjects.eraser.OldestUnfinished().Seconds() }))
	return a.subjects.eraser
}

// ReadLog returns the log in a pool's database for a command that reads it: in plain text if the settings have the keys. The
// caller calls done.
func ReadLog(ctx context.Context, cfg config.Config, pool *pgxpool.Pool) (log *eventstore.Store, done func(), err error) {
	codec, done, err := LogCodec(ctx, cfg, true)
	if err != nil {
		return nil, nil, err
	}
	log = eventstore.New(pool)
	if codec != nil {
		log = log.Coded(codec)
	}
	return log, done, nil
}

// LogCodec returns what seals and opens personal text of the log, nil if the settings have no keys. With readOnly it makes no keys. The
// caller calls done.
func LogCodec(ctx context.Context, cfg config.Config, readOnly bool) (codec eventstore.Codec, done func(), err error) {
	if len(cfg.MasterKeys) == 0 {
		return nil, func() {}, nil
	}
	master, err := subject.NewMasterKey(cfg.MasterKeys...)
	if err != nil {
		return nil, nil, err
	}
	pool, err := postgres.NewPool(ctx, cfg.KeysDatabaseURL, postgres.WithApplicationName("passbook keys"), postgres.WithMaxConns(1))
	if err != nil {
		return nil, nil, err
	}
	keys := subject.NewKeys(pool, master, readOnly)
	if err := keys.Prepare(ctx); err != nil {
		pool.Close()
		return nil, nil, err
	}
	return subject.NewCodec(keys), pool.Close, nil
}

// RewrapKeys has the keys of all subjects wrapped by the first master key of the settings.
func RewrapKeys(ctx context.Context, cfg config.Config, progress func(done, total int64)) (subject.Rewrapped, error) {
	if len(cfg.MasterKeys) == 0 {
		return subject.Rewrapped{}, config.Usage(errors.New("there are no keys: set PASSBOOK_SUBJECT_MASTER_KEY_FILE and PASSBOOK_SUBJECT_KEYS_DATABASE_URL"))
	}
	master, err := subject.NewMasterKey(cfg.MasterKeys...)
	if err != nil {
		return subject.Rewrapped{}, err
	}
	pool, err := postgres.NewPool(ctx, cfg.KeysDatabaseURL, postgres.WithApplicationName("passbook rewrap"), postgres.WithMaxConns(1))
	if err != nil {
		return subject.Rewrapped{}, err
	}
	defer pool.Close()
	return master.Rewrap(ctx, pool, progress)
}

// prepare makes the keys ready for use, and destroys those that the log says are erased. Nothing may read the log before.
func (s *subjects) prepare(ctx context.Context) error {
	if s == nil {
		return nil
	}
	err := s.keys.Prepare(ctx)
	if err == nil && s.eraser != nil {
		err = s.eraser.Reconcile(ctx)
	}
	if errors.Is(err, subject.ErrLogDatabase) || errors.Is(err, subject.ErrMasterKey) {
		return config.Usage(err)
	}
	if err != nil {
		return fmt.Errorf("the subjects' keys: %w", err)
	}
	return nil
}

// checks returns the readiness check of the keys' database.
func (s *subjects) checks(ctx context.Context) []httpapi.Check {
	if s == nil {
		return nil
	}
	check := httpapi.Check{Name: "subject keys", OK: true, Detail: "are available"}
	if err := s.pool.Ping(ctx); err != nil {
		check.OK, check.Detail = false, "their database is unavailable"
		if !postgres.IsUnavailable(err) {
			check.Detail = "their database cannot be used"
		}
	}
	return []httpapi.Check{check}
}
