package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"passbook/client"
	"passbook/internal/app"
	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/postgres"
)

// comparePage is how many events are read from the log at a time.
const comparePage = 1000

// compareLogs compares the log in the database with that of a running server, event by event, up to the end of the shorter one. It begins
// where both have all events.
func compareLogs(ctx context.Context, cfg config.Config, server string, out io.Writer) (err error) {
	d, err := app.AttachDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	store, done, err := openLog(ctx, cfg, d)
	if err != nil {
		return err
	}
	defer done()
	c, server, err := newClient(server, &cfg)
	if err != nil {
		return err
	}
	head, err := store.Head(ctx)
	if err != nil {
		return err
	}
	position, err := beforeBoth(ctx, store, c, out)
	if err != nil {
		return explain(ctx, err, server)
	}
	next, stop := iter.Pull2(c.Events(ctx, position, client.EventFilter{}))
	defer stop()
	render, hash := app.CloudEvent(cfg.Naming), sha256.New()
	for {
		events, err := store.Select(ctx, position, math.MaxInt64, eventstore.Selection{}, comparePage)
		if err != nil {
			return err
		}
		for i := range events {
			there, err, more := next()
			if err != nil {
				return explain(ctx, err, server)
			}
			if !more {
				return reportEqual(out, server, position, hash.Sum(nil), max(head, position), position)
			}
			ours, theirs, err := bothSides(render, &events[i], there)
			if err != nil {
				return err
			}
			if string(ours) != string(theirs) {
				return fmt.Errorf("verify: the logs differ at position %d, and are equal before it (sha256 %s)\nhere  %s\nthere %s",
					events[i].Position, hex.EncodeToString(hash.Sum(nil)), ours, theirs)
			}
			_, _ = hash.Write(append(ours, '\n')) // cannot fail
			position = events[i].Position
		}
		if len(events) < comparePage {
			there, err, more := next()
			if err != nil {
				return explain(ctx, err, server)
			}
			end := position
			if more {
				end = max(end, int64(there.Position))
			}
			return reportEqual(out, server, position, hash.Sum(nil), position, end)
		}
	}
}

// beforeBoth returns the position after which both logs have all events, and prints it if there are earlier ones.
func beforeBoth(ctx context.Context, here *eventstore.Store, there *client.Client, out io.Writer) (int64, error) {
	first, err := here.Begin(ctx)
	if err != nil {
		return 0, err
	}
	for _, err := range there.Events(ctx, 0, client.EventFilter{}) {
		refused, ok := errors.AsType[*client.Problem](err)
		if ok && refused.Code == "events-archived" {
			first = max(first, refused.FirstPosition)
		} else if err != nil {
			return 0, err
		}
		break
	}
	if first > 1 {
		_, err = fmt.Fprintf(out, "events up to position %d are in an archive, and are not compared\n", first-1)
	}
	return first - 1, err
}

// openLog opens the log in the database. The caller calls done.
func openLog(ctx context.Context, cfg config.Config, d *app.Database) (log *eventstore.Store, done func(), err error) {
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook verify"), postgres.WithMaxConns(1))
	if err != nil {
		return nil, nil, err
	}
	log, closeKeys, err := app.ReadLog(ctx, cfg, pool)
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return log, func() { closeKeys(); pool.Close() }, nil
}

func reportEqual(out io.Writer, server string, position int64, sum []byte, here, there int64) error {
	_, err := fmt.Fprintf(out, "the log is equal to that of %s up to position %d (sha256 %s)\n", server, position, hex.EncodeToString(sum))
	if err == nil && here > position {
		_, err = fmt.Fprintf(out, "it has more, up to position %d\n", here)
	}
	if err == nil && there > position {
		_, err = fmt.Fprintln(out, "the other has more")
	}
	return err
}

// bothSides returns the same event of two logs in one form: without what the settings of each server say of its name.
func bothSides(render func(*eventstore.Event) ([]byte, error), e *eventstore.Event, there client.CloudEvent) (ours, theirs []byte, err error) {
	if bytes.Contains(e.Payload, []byte(`"sealed": {`)) {
		return nil, nil, fmt.Errorf("verify: the event at position %d is sealed; to compare it, set PASSBOOK_SUBJECT_MASTER_KEY_FILE and PASSBOOK_SUBJECT_KEYS_DATABASE_URL", e.Position)
	}
	text, err := render(e)
	if err != nil {
		return nil, nil, err
	}
	var here client.CloudEvent
	if err := json.Unmarshal(text, &here); err != nil {
		return nil, nil, fmt.Errorf("verify: the event at position %d: %w", e.Position, err)
	}
	for _, side := range []struct {
		event *client.CloudEvent
		text  *[]byte
	}{{&here, &ours}, {&there, &theirs}} {
		side.event.Source, side.event.DataSchema = "", ""
		name := string(side.event.Type)
		side.event.Type = client.EventType(name[strings.LastIndex(name, ".")+1:])
		if *side.text, err = json.Marshal(side.event); err != nil {
			return nil, nil, fmt.Errorf("verify: the event at position %d: %w", e.Position, err)
		}
	}
	return ours, theirs, nil
}
