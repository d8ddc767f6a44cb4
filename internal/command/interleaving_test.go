package command_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// TestInterleavings walks three instances through the protocol statement by statement, in random order, with lost answers,
// instances that crash, and a log that loses its tail. The fold of all earlier events must allow every event appended, and every
// refusal must be right for the log at some moment while its command ran.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	const walks = 60
	w := newWalk(t)
	for seed := range uint64(walks) {
		if err := w.run(t, seed); err != nil {
			t.Fatalf("walk %d: %v", seed, err)
		}
	}
	t.Logf("%d walks: %+v", walks, w.seen)
	if s := w.seen; s.accepted == 0 || s.refused == 0 || s.exists == 0 || s.missing == 0 || s.unknown == 0 || s.lost == 0 || s.locked == 0 {
		t.Errorf("something was never tried: %+v", s)
	}
}

// TestBrokenProtocolsAreDetected breaks one part of the protocol at a time, and expects the same walk to detect it.
func TestBrokenProtocolsAreDetected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		instead [2]string // in the statements of the instances
		sql     string    // run on the database
	}{
		"the head is not compared": {sql: `do $$ begin execute replace(pg_get_functiondef('append'::regproc),
'moved := last_position <> head_position or last_event is distinct from head_event;', 'moved := false; head_position := last_position;'); end $$`},
		"catching up skips events":     {instead: [2]string{"select position, stream_id, version,", "select position,  event_id, version,"}},
		"the lock does not come first": {instead: [2]string{"select pg_advisory_xact_lock(7018230141)", "select pg_advisory_xact_lock(7018230142)"}},
		"used transfers are not found": {instead: [2]string{"type = 'TransferSent'", "type = 'TransferFelt'"}},
		"used holds are not found":     {instead: [2]string{"'hold_id'", "'hold_no'"}},
		"reversals are not counted":    {instead: [2]string{"'reversed_position'", "'unversed_position'"}},
		"looking goes past the head":   {instead: [2]string{"e.position <= $4", "e.position*0<=$4"}},
		"loading goes past the head":   {instead: [2]string{"e.position <= $2", "e.position*0<=$2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const walks = 1000
			w := newWalk(t, test.instead)
			if test.sql != "" {
				if _, err := w.pool.Exec(t.Context(), test.sql); err != nil {
					t.Fatal(err)
				}
			}
			for seed := range uint64(walks) {
				if err := w.run(t, seed); err != nil {
					t.Logf("walk %d: %v", seed, err)
					return
				}
			}
			t.Errorf("%d walks detected nothing: %+v", walks, w.seen)
		})
	}
}

// walk is a database with three instances on it.
type walk struct {
	url     string
	pool    *pgxpool.Pool // as the owner
	instead [][2]string
	ids     []uuid.UUID
	writers []*writer
	states  []state     // after each event, and after each loss of the tail
	log     []uuid.UUID // the event ids at the last refold
	broken  error       // the errors that refold has found
	seen    struct{ accepted, refused, exists, missing, unknown, lost, crashed, locked int }
}

// state is the fold of the log.
type state struct {
	available map[uuid.UUID]int64
	transfers map[uuid.UUID]bool // the ids
	holds     map[uuid.UUID]placed
	moves     map[int64]move
	events    int64
}

// placed is a hold.
type placed struct {
	account uuid.UUID
	amount  int64
	ended   bool
}

// move is a movement: what is left to reverse, and the account that a reversal takes it from, nil for outside.
type move struct {
	left int64
	to   uuid.UUID
}

// writer is one instance, which runs at most one command.
type writer struct {
	gate    *gate
	service *command.Service
	stop    func()
	request command.Request
	answer  <-chan answered // nil when it is idle
	held    bool            // the gate holds a statement of it
	since   int             // the index in states when its command began
}

func newWalk(t *testing.T, instead ...[2]string) *walk {
	t.Helper()
	w := &walk{url: pgtest.URL(t)}
	for _, pair := range instead {
		if pair[0] != "" {
			w.instead = append(w.instead, pair)
		}
	}
	w.pool = newPool(t, w.url)
	return w
}

// run makes one walk on an empty log.
func (w *walk) run(t *testing.T, seed uint64) error {
	t.Helper()
	if _, err := w.pool.Exec(t.Context(), "truncate events, idempotency_keys"); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 7))
	w.ids = []uuid.UUID{uuid.New(), uuid.New()}
	w.writers, w.states, w.log, w.broken = nil, nil, nil, nil
	for range 3 {
		w.writers = append(w.writers, w.start(t))
	}
	defer func() {
		for _, writer := range w.writers {
			writer.end()
		}
	}()
	for _, id := range w.ids {
		must(t, w.writers[0].service, request(id, account.Open{Owner: "Ada", Currency: eur}))
		must(t, w.writers[0].service, deposit(id, "3"))
	}
	w.refold(t)
	for _, writer := range w.writers {
		writer.gate.close()
	}
	for range 60 {
		if err := errors.Join(w.step(t, random), w.broken); err != nil {
			return err
		}
	}
	return w.finish(t)
}

func (w *walk) start(t *testing.T) *writer {
	t.Helper()
	g := newGate(t, w.url, w.instead...)
	service, stop := startStoppable(t, g.pool, cacheSize(1+len(w.writers)))
	return &writer{gate: g, service: service, stop: stop}
}

func (writer *writer) end() {
	writer.gate.open()
	writer.stop()
	writer.gate.pool.Close()
}

// step takes one random step.
func (w *walk) step(t *testing.T, random *rand.Rand) error {
	t.Helper()
	writer := w.writers[random.IntN(len(w.writers))]
	switch n := random.IntN(100); {
	case n < 4:
		w.loseTail(t, random)
		return nil
	case n < 6 && writer.answer == nil:
		w.seen.crashed++
		writer.end()
		*writer = *w.start(t)
		writer.gate.close()
		return nil
	case writer.answer == nil:
		writer.request = keyed(w.anyCommand(random))
		writer.answer, writer.since = async(context.Background(), writer.service, writer.request), len(w.states)-1
		return w.settle(t, writer)
	case writer.held:
		if random.IntN(12) == 0 {
			writer.gate.lose.Store(true)
		}
		writer.held = false
		writer.gate.step()
	}
	return w.settle(t, writer)
}

func (w *walk) anyCommand(random *rand.Rand) command.Request {
	i := random.IntN(len(w.ids))
	n := byte(random.IntN(5)) // few, so that ids repeat
	holdID, transferID := uuid.UUID{1, n}, uuid.UUID{2, n}
	switch amount := fmt.Sprint(1 + random.IntN(3)); random.IntN(8) {
	case 0:
		return deposit(w.ids[i], amount)
	case 1:
		return withdraw(w.ids[i], amount)
	case 2:
		return hold(w.ids[i], holdID, amount)
	case 3:
		return request(w.ids[i], account.CaptureHold{HoldID: holdID, To: w.ids[1-i]})
	case 4:
		return request(w.ids[i], account.ReleaseHold{HoldID: holdID})
	case 5, 6:
		return reverse(int64(1+random.IntN(len(w.log)+2)), amount)
	default:
		return request(w.ids[i], account.Transfer{TransferID: transferID, To: w.ids[1-i], Amount: dec(amount)})
	}
}

// settle waits until a writer is held again, has its answer, or waits for the append lock, and folds the log.
func (w *walk) settle(t *testing.T, writer *writer) error {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		select {
		case <-writer.gate.arrived:
			writer.held = true
			w.refold(t)
			return nil
		case got := <-writer.answer:
			writer.gate.lose.Store(false)
			w.refold(t)
			return w.checkAnswer(writer, got)
		case <-time.After(time.Millisecond):
		}
		if appendWaits(t, w.pool) {
			w.seen.locked++
			w.refold(t)
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("an instance is stuck")
		}
	}
}

// checkAnswer compares an answer with the log.
func (w *walk) checkAnswer(writer *writer, got answered) error {
	writer.answer = nil
	if errors.Is(got.err, errLost) || postgres.IsUnavailable(got.err) {
		w.seen.unknown++
		return nil
	}
	code := codeOf(got.err)
	switch {
	case got.err == nil:
		w.seen.accepted++
		return nil // refold has checked that its events were allowed
	case code == "exists":
		w.seen.exists++
	case code == "not found":
		w.seen.missing++
	default:
		w.seen.refused++
	}
	if slices.ContainsFunc(w.states[writer.since:], func(s state) bool { return s.outcome(writer.request) == code }) {
		return nil
	}
	return fmt.Errorf("%T%+v: %w, and the log never said so: %v", writer.request.Command, writer.request.Command, got.err, w.states[writer.since:])
}

// outcome returns the outcome that a request should have, as a code of codeOf.
func (s state) outcome(r command.Request) string {
	short := func(id uuid.UUID, amount int64) string {
		if s.available[id] < amount {
			return account.CodeInsufficientFunds
		}
		return ""
	}
	ends := func(id uuid.UUID) string {
		h, found := s.holds[id]
		switch {
		case !found || h.account != r.AccountID:
			return "not found"
		case h.ended:
			return account.CodeHoldNotOpen
		}
		return ""
	}
	switch c := r.Command.(type) {
	case account.Withdraw:
		return short(r.AccountID, minor(c.Amount, "EUR"))
	case account.Transfer:
		if s.transfers[c.TransferID] {
			return "exists"
		}
		return short(r.AccountID, minor(c.Amount, "EUR"))
	case account.PlaceHold:
		if _, used := s.holds[c.HoldID]; used {
			return "exists"
		}
		return short(r.AccountID, minor(c.Amount, "EUR"))
	case account.CaptureHold:
		return ends(c.HoldID)
	case account.ReleaseHold:
		return ends(c.HoldID)
	case account.Reverse:
		v, moved := s.moves[c.Position]
		switch amount := minor(*c.Amount, "EUR"); {
		case c.Position > s.events:
			return "not found"
		case !moved:
			return account.CodeNotReversible
		case v.left == 0:
			return account.CodeAlreadyReversed
		case amount > v.left:
			return account.CodeAmountAboveMovement
		case v.to != uuid.Nil:
			return short(v.to, amount)
		}
	}
	return ""
}

// loseTail deletes events at the end of the log, as a failover to a standby that had not received them does. It does nothing
// while a transaction of Locked is open, which a failover would have ended.
func (w *walk) loseTail(t *testing.T, random *rand.Rand) {
	t.Helper()
	const locked = `select exists (select from pg_locks where locktype = 'advisory' and granted
and database = (select oid from pg_database where datname = current_database()))`
	var held bool
	if err := w.pool.QueryRow(t.Context(), locked).Scan(&held); err != nil {
		t.Fatal(err)
	}
	first := len(w.log) - random.IntN(3)
	if held || first <= 4 {
		return
	}
	w.seen.lost++
	forget(t, w.pool, int64(first-1))
	w.refold(t)
}

// refold folds the log if it has changed.
func (w *walk) refold(t *testing.T) {
	t.Helper()
	events, err := eventstore.New(w.pool).ReadAfter(t.Context(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]uuid.UUID, len(events))
	for i := range events {
		ids[i] = events[i].EventID
	}
	if w.states != nil && slices.Equal(ids, w.log) {
		return
	}
	// There may have been several appends since the last refold.
	common := 0
	for common < min(len(ids), len(w.log)) && ids[common] == w.log[common] {
		common++
	}
	w.log = ids
	for n := common; n <= len(events); n++ {
		folded, err := foldAllowed(events[:n])
		w.states, w.broken = append(w.states, folded), errors.Join(w.broken, err)
	}
}

// foldAllowed returns the state after the events, and an error if the log has a gap or an event was not allowed.
func foldAllowed(events []eventstore.Event) (s state, err error) {
	s = state{
		make(map[uuid.UUID]int64), make(map[uuid.UUID]bool), make(map[uuid.UUID]placed), make(map[int64]move), int64(len(events)),
	}
	versions, ends := make(map[uuid.UUID]int64), newEnds()
	for i := range events {
		e := &events[i]
		if e.Position != int64(i)+1 {
			return s, fmt.Errorf("position %d follows on %d", e.Position, i)
		}
		if versions[e.StreamID]++; e.Version != versions[e.StreamID] {
			return s, fmt.Errorf("position %d has version %d, want %d", e.Position, e.Version, versions[e.StreamID])
		}
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			return s, err
		}
		if err := ends.see(e.Position, decoded); err != nil {
			return s, err
		}
		s.apply(e, decoded)
		if s.available[e.StreamID] < 0 {
			return s, fmt.Errorf("position %d (%s) takes %s to %d", e.Position, e.Type, e.StreamID, s.available[e.StreamID])
		}
	}
	return s, nil
}

func (s state) apply(e *eventstore.Event, decoded account.Event) {
	move := func(by, left int64, to uuid.UUID) {
		s.available[e.StreamID] += by
		s.moves[e.Position] = move{left, to}
	}
	end := func(id uuid.UUID) {
		h := s.holds[id]
		h.ended = true
		s.holds[id] = h
		s.available[e.StreamID] += h.amount
	}
	back := func(by int64, r account.Reversal) {
		s.available[e.StreamID] += by
		v := s.moves[r.ReversedPosition]
		v.left -= r.Amount.Minor()
		s.moves[r.ReversedPosition] = v
	}
	switch d := decoded.(type) {
	case account.MoneyDeposited:
		move(d.Amount.Minor(), d.Amount.Minor(), e.StreamID)
	case account.MoneyWithdrawn:
		move(-d.Amount.Minor(), d.Amount.Minor(), uuid.Nil)
	case account.TransferSent:
		move(-d.Amount.Minor(), d.Amount.Minor(), d.To)
		s.transfers[d.TransferID] = true
	case account.TransferReceived:
		move(d.Amount.Minor(), d.Amount.Minor(), e.StreamID)
	case account.HoldPlaced:
		s.available[e.StreamID] -= d.Amount.Minor()
		s.holds[d.HoldID] = placed{account: e.StreamID, amount: d.Amount.Minor()}
	case account.HoldCaptured:
		end(d.HoldID)
	case account.HoldReleased:
		end(d.HoldID)
	case account.CreditReversed:
		back(-d.Amount.Minor(), d.Reversal)
	case account.DebitReversed:
		back(d.Amount.Minor(), d.Reversal)
	}
}

// finish lets every instance finish its command, and asserts that the log has no gap and that every event was allowed.
func (w *walk) finish(t *testing.T) error {
	t.Helper()
	for _, writer := range w.writers {
		writer.gate.lose.Store(false)
		writer.gate.open()
	}
	for _, writer := range w.writers {
		if writer.answer != nil {
			got := <-writer.answer
			w.refold(t)
			if err := w.checkAnswer(writer, got); err != nil {
				return err
			}
		}
	}
	return w.broken
}
