package follow

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/copylog"
	"passbook/internal/eventstore"
)

// insert stores the events if they follow the log's head, all or none. Otherwise it returns the log's head, which another instance
// has moved.
func (f *Follower) insert(ctx context.Context, head eventstore.Head, events []eventstore.Event) (found eventstore.Head, err error) {
	found, err = copylog.Insert(ctx, f.Pool, head, events)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "23505", "23514": // a unique constraint, a check
			return found, &HaltedError{fmt.Sprintf("the events after position %d do not follow on this log (%v): %s", head.Position, err, makeAnew)}
		case "42501": // insufficient privilege
			return found, &HaltedError{"the database's role may not write the log: a follower needs the role that owns its tables"}
		}
	}
	if err != nil {
		return found, fmt.Errorf("follow: store events: %w", err)
	}
	return found, nil
}
