package eventstore

import (
	"context"

	"github.com/google/uuid"
)

const (
	selectByTypeSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at, metadata
from events where position > $1 and position <= $2 and type = any ($3) order by position limit $4`

	// The versions of a stream grow with its positions, so that a binary search finds where to begin, however long the
	// stream is: the last version that is not after the position is the greatest low. The additions of 0 keep the bounds on
	// the position from being looked up in the primary key, half of which a plan for any parameters would read.
	selectByStreamSQL = `with recursive search (low, high) as (
    select 0::bigint, 1 + coalesce((select version from events where stream_id = $1 order by version desc limit 1), 0)
    union all
    select case when m.past then s.low else s.middle end, case when m.past then s.middle else s.high end
    from (select low, high, low + (high - low) / 2 as middle from search where high - low > 1) as s
    cross join lateral (
        select e.position > $2 as past from events e where e.stream_id = $1 and e.version = s.middle) as m
)
select position, stream_id, version, event_id, type, schema_version, payload, recorded_at, metadata
from events
where stream_id = $1 and version > (select max(low) from search) and position + 0 > $2 and position + 0 <= $3
  and (type = any ($4) or $4 is null)
order by version limit $5`
)

// Selection narrows a read of the log. Its zero value is everything.
type Selection struct {
	// StreamID is the one stream to read; the zero UUID means all.
	StreamID uuid.UUID
	// Types are the event types to read; none means all.
	Types []string
}

// Select returns, in order, at most limit of the selected events after position after and up to position upTo, which
// must not lie beyond the head. Every position of that range is looked at, so that the cost of a selection by type
// grows with the range; that of a selection by stream grows with the answer alone.
func (r reader) Select(ctx context.Context, after, upTo int64, sel Selection, limit int) ([]Event, error) {
	switch {
	case sel.StreamID != uuid.Nil:
		return r.events(ctx, limit, selectByStreamSQL, sel.StreamID, after, upTo, sel.Types, limit)
	case sel.Types != nil:
		return r.events(ctx, limit, selectByTypeSQL, after, upTo, sel.Types, limit)
	case upTo <= after:
		return nil, nil
	}
	return r.ReadAfter(ctx, after, int(min(int64(limit), upTo-after)))
}
