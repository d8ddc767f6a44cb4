package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// report prints the interruption of writes and reads at each mark. It returns an error that names what was wrong.
func (l *load) report(out io.Writer, marks []mark, away time.Duration) error {
	var wrong []error
	acks := l.ackTimes()
	slices.SortFunc(l.read, time.Time.Compare)
	if len(acks) == 0 || len(l.read) == 0 {
		return errors.New("nothing was acknowledged or read")
	}
	for i, m := range marks {
		until := acks[len(acks)-1]
		if i+1 < len(marks) {
			until = marks[i+1].at
		}
		writes, reads := longest(acks, m.at, until), longest(l.read, m.at, until)
		fmt.Fprintf(out, "%s: writes away for %.1f s, longest wait between two reads %.0f ms\n",
			m.what, writes.Seconds(), float64(reads.Microseconds())/1000)
		if writes > away {
			wrong = append(wrong, fmt.Errorf("%s: writes were away for %s", m.what, writes))
		}
	}
	tries := 0
	for i := range l.acked {
		if l.acked[i].tries > 1 {
			tries++
		}
	}
	fmt.Fprintf(out, "%d deposits acknowledged, %d of them after more than one try, %d by the first answer again; %d given up\n",
		len(l.acked), tries, l.replayed, len(l.given))
	fmt.Fprintf(out, "%d reads answered, %d failed\n", len(l.read), len(l.readFail))
	if len(l.readFail) > 0 {
		wrong = append(wrong, fmt.Errorf("%d reads failed, the first with %s", len(l.readFail), l.readFail[0]))
	}
	return errors.Join(wrong...)
}

const (
	// From the log itself, not a read model: how often each reference occurs, and where.
	depositsSQL = `select payload->>'reference', event_id, position from events where type = 'MoneyDeposited'`

	headSQL = `select count(*), coalesce(max(position), 0) from events`
)

// audit compares the acknowledged deposits with the log.
func audit(ctx context.Context, database string, l *load, out io.Writer) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	type deposit struct {
		Reference string
		EventID   uuid.UUID
		Position  int64
	}
	rows, _ := conn.Query(ctx, depositsSQL)
	deposits, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deposit])
	if err != nil {
		return err
	}
	inLog := make(map[string][]receipt, len(deposits))
	for _, d := range deposits {
		inLog[d.Reference] = append(inLog[d.Reference], receipt{d.EventID, d.Position})
	}
	var count, head int64
	if err := conn.QueryRow(ctx, headSQL).Scan(&count, &head); err != nil {
		return err
	}
	var lost, twice, moved int
	for i := range l.acked {
		a := &l.acked[i]
		switch found := inLog[a.reference]; {
		case len(found) == 0:
			lost++
		case found[0] != a.receipt:
			moved++
		}
	}
	for _, found := range inLog {
		if len(found) > 1 {
			twice++
		}
	}
	fmt.Fprintf(out, "in the log: %d events, the last at position %d; acknowledged and lost: %d, twice: %d, elsewhere than acknowledged: %d\n",
		count, head, lost, twice, moved)
	if lost+twice+moved > 0 || count != head {
		return errors.New("the log does not match the acknowledged deposits")
	}
	return nil
}
