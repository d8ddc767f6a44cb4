package eventstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

const lookSQL = `select coalesce(e.position, 0), coalesce(e.event_id, '00000000-0000-0000-0000-000000000000'),
       $1::bigint = 0 or exists (select from events where position = $1 and (event_id = $2 or $2 is null)), pg_is_in_recovery()
from (select) as one left join lateral (select position, event_id from events order by position desc limit 1) as e on true`

// View is the log at one moment.
type View struct {
	// Head is the position of the last event, 0 when there is none, and EventID its id.
	Head    int64
	EventID uuid.UUID
	// Holds says that the event which was asked about is there. A log that held it once and does not any more has lost its end;
	// all that is read up to an event which is there is as it was.
	Holds bool
	// Standby says that the database only follows another one, which may have more.
	Standby bool
}

// Look answers how the log stands, and whether it holds an event at a position; the zero id stands for any.
func (s *Store) Look(ctx context.Context, position int64, event uuid.UUID) (v View, err error) {
	var id *uuid.UUID
	if event != uuid.Nil {
		id = &event
	}
	if err := s.db.QueryRow(ctx, lookSQL, position, id).Scan(&v.Head, &v.EventID, &v.Holds, &v.Standby); err != nil {
		return View{}, fmt.Errorf("eventstore: look: %w", err)
	}
	return v, nil
}
