package eventstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Past is what has been seen of the log, as marks: events that it held. While it holds them, all that came before them is
// there as it was seen, since a log can lose its end, when it fails over to a standby that had not received it, and nothing
// else. The zero Past has seen nothing. It is for one goroutine.
type Past struct {
	positions []int64
	events    [][16]byte
	// shared says that others had appended since, when this past last went on.
	shared bool
}

// Saw notes what one statement has read: the event of the highest position, or any that is known to be at or after it.
func (p *Past) Saw(position int64, event uuid.UUID) {
	for i := range p.positions {
		if p.positions[i] == position && p.events[i] == event {
			return
		}
	}
	p.positions, p.events = append(p.positions, position), append(p.events, event)
}

// Forget forgets all.
func (p *Past) Forget() { p.positions, p.events = p.positions[:0], p.events[:0] }

// isHead tells whether the past is likely to be all of the log: it has one mark, and nobody else appended the last time.
func (p *Past) isHead() bool { return len(p.positions) == 1 && !p.shared }

// shortLog is the length up to which a plan may be made that reads all of the log.
const shortLog = 1000

// wentOn forgets all, when the past goes on from an append behind head.
func (p *Past) wentOn(head int64) {
	p.shared = !slices.Contains(p.positions, head)
	p.Forget()
}

// Marks is how many events the past rests on. What was read in one statement takes one; an append that went well, or
// Confirm, makes one of all of them.
func (p *Past) Marks() int { return len(p.positions) }

const confirmSQL = `select count(*) from unnest($1::bigint[], $2::uuid[]) as m(position, event_id)
where exists (select from events e where e.position = m.position and e.event_id = m.event_id)`

// Confirm looks whether the log holds all marks, and makes one of them if it does. When it does not, the past is forgotten,
// and what is known of the log from then is not to be trusted.
func (s *Store) Confirm(ctx context.Context, p *Past) (bool, error) {
	var held int
	if err := s.db.QueryRow(ctx, confirmSQL, p.positions, p.events).Scan(&held); err != nil {
		return false, fmt.Errorf("eventstore: confirm: %w", s.suspect(err))
	}
	if held != p.Marks() {
		p.Forget()
		return false, nil
	}
	last := 0
	for i := range p.positions {
		if p.positions[i] > p.positions[last] {
			last = i
		}
	}
	if held > 0 {
		p.positions, p.events = append(p.positions[:0], p.positions[last]), append(p.events[:0], p.events[last])
	}
	return true, nil
}
