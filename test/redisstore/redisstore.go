// Package redisstore keeps read models in Redis. It shows how small a projector.Store is, and stays out of the service.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"passbook/internal/projector"
)

// Fold collects a batch. Write queues the commands that apply it to keys with a prefix; it reads nothing.
type Fold interface {
	Write(ctx context.Context, pipe redis.Pipeliner, prefix string)
}

// Store is a projector.Store in the keys of one prefix: PREFIX:epoch, PREFIX:live, and for each generation N its checkpoint
// PREFIX:N:at and the keys of its folds. A batch and its checkpoint are one MULTI/EXEC, which WATCH makes a
// compare-and-set.
type Store struct {
	client *redis.Client
	prefix string
}

// New returns a Store. The caller closes the client.
func New(client *redis.Client, prefix string) *Store { return &Store{client, prefix} }

func (s *Store) key(name string) string { return s.prefix + ":" + name }

func (s *Store) generation(n int64) string { return fmt.Sprintf("%s:%d:", s.prefix, n) }

// Live returns the key prefix of the live generation, and a position that it has reached at least. The keys stay until the
// flip after the next one.
func (s *Store) Live(ctx context.Context) (prefix string, position int64, err error) {
	live, err := number(s.client.Get(ctx, s.key("live")))
	if err != nil {
		return "", 0, err
	}
	at, err := checkpoint(s.client.Get(ctx, s.generation(live)+"at"))
	return s.generation(live), at.Position, err
}

// Checkpoint implements projector.Store.
func (s *Store) Checkpoint(ctx context.Context, epoch, generation int64) (at projector.Checkpoint, err error) {
	err = s.watch(ctx, epoch, func(tx *redis.Tx) error {
		if at, err = checkpoint(tx.Get(ctx, s.generation(generation)+"at")); err != nil {
			return err
		}
		if seen, err := number(tx.Get(ctx, s.key("epoch"))); err != nil || seen == epoch {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, s.key("epoch"), epoch, 0)
			return nil
		})
		return err
	})
	return at, err
}

// Apply implements projector.Store.
func (s *Store) Apply(ctx context.Context, epoch, generation int64, from, to projector.Checkpoint, fold any) error {
	f, ok := fold.(Fold)
	if !ok {
		return fmt.Errorf("redisstore: a %T is not a Fold", fold)
	}
	prefix := s.generation(generation)
	return s.watch(ctx, epoch, func(tx *redis.Tx) error {
		at, err := checkpoint(tx.Get(ctx, prefix+"at"))
		if err != nil {
			return err
		}
		if at != from {
			return projector.ErrFenced
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			f.Write(ctx, pipe, prefix)
			pipe.Set(ctx, prefix+"at", fmt.Sprintf("%d %s", to.Position, to.EventID), 0)
			return nil
		})
		return err
	}, prefix+"at")
}

// Flip implements projector.Store.
func (s *Store) Flip(ctx context.Context, epoch, generation int64, back bool) error {
	var before int64
	flipped := false
	err := s.watch(ctx, epoch, func(tx *redis.Tx) error {
		live, err := number(tx.Get(ctx, s.key("live")))
		if err != nil || live >= generation {
			return err
		}
		was, err := checkpoint(tx.Get(ctx, s.generation(live)+"at"))
		if err != nil {
			return err
		}
		at, err := checkpoint(tx.Get(ctx, s.generation(generation)+"at"))
		if err != nil {
			return err
		}
		if !back && at.Position < was.Position {
			return projector.ErrFenced
		}
		// If the live one moves while this is decided, it is decided again.
		if err := tx.Watch(ctx, s.generation(live)+"at").Err(); err != nil {
			return err
		}
		if now, err := checkpoint(tx.Get(ctx, s.generation(live)+"at")); err != nil || now != was {
			return errors.Join(err, projector.ErrFenced)
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, s.key("live"), generation, 0)
			return nil
		})
		before, flipped = live, err == nil
		return err
	}, s.key("live"))
	if err != nil || !flipped {
		return err
	}
	return s.deleteAllBut(ctx, generation, before)
}

// deleteAllBut deletes the keys of earlier generations.
func (s *Store) deleteAllBut(ctx context.Context, live, before int64) error {
	keys := s.client.Scan(ctx, 0, s.prefix+":*:*", 1000).Iterator()
	for keys.Next(ctx) {
		n, _, _ := strings.Cut(strings.TrimPrefix(keys.Val(), s.prefix+":"), ":")
		if g, err := strconv.ParseInt(n, 10, 64); err != nil || g >= live || g == before {
			continue
		}
		if err := s.client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// watch runs f, whose transaction is discarded if the epoch or one of the keys changes meanwhile.
func (s *Store) watch(ctx context.Context, epoch int64, f func(*redis.Tx) error, keys ...string) error {
	err := s.client.Watch(ctx, func(tx *redis.Tx) error {
		seen, err := number(tx.Get(ctx, s.key("epoch")))
		if err != nil {
			return err
		}
		if seen > epoch {
			return projector.ErrFenced
		}
		return f(tx)
	}, append(keys, s.key("epoch"))...)
	if errors.Is(err, redis.TxFailedErr) {
		return projector.ErrFenced
	}
	return err
}

// number returns the number in a reply, or 0 if there is none.
func number(reply *redis.StringCmd) (int64, error) {
	n, err := reply.Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return n, err
}

// checkpoint returns the checkpoint in a reply, or the zero value if there is none.
func checkpoint(reply *redis.StringCmd) (at projector.Checkpoint, err error) {
	text, err := reply.Result()
	if errors.Is(err, redis.Nil) {
		return at, nil
	}
	if err != nil {
		return at, err
	}
	position, event, _ := strings.Cut(text, " ")
	if at.Position, err = strconv.ParseInt(position, 10, 64); err != nil {
		return at, err
	}
	at.EventID, err = uuid.Parse(event)
	return at, err
}
