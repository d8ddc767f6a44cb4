package follow

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/copylog"
	"passbook/internal/eventstore"
)

// insert stores the events, all or none, if head is the log's head. It returns the log's head after it: the last of the events, or
// the one that another instance has stored.
func (f *Follower) insert(ctx context.Context, head eventstore.Head, events []eventstore.Event) (found eventstore.Head, err error) {
	found, err = copylog.Insert(ctx, f.Pool, head, events)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case refused.Code == "23505", refused.Code == "23514" && refused.ConstraintName != "": // a check; without a name, a missing partition
			return found, &HaltedError{fmt.Sprintf("the events after position %d contradict this log (%v): %s", head.Position, err, makeAnew)}
		case refused.Code == "42501": // insufficient privilege
			return found, &HaltedError{"the database role may not write to the log: a follower needs the role that owns the tables"}
		}
	}
	if err != nil {
		return found, fmt.Errorf("follow: store events: %w", err)
	}
	return found, nil
}
