package oracle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
)

// Step is one operation on one account, as the client observed it, for CheckLinear. A command with several events on an account
// is several steps if it was applied, since a read may show the state between them.
type Step struct {
	Client  int
	Account string
	// Kind is open, credit, debit, suspend, reactivate, close, change, hold, capture, release, expire, take-back, give-back or read.
	// A capture only ends the hold; a debit follows, which is Forced since its money was reserved. A take-back reverses a credit, a
	// give-back a debit.
	Kind string
	// Limit is that of an open, and of a change that SetsLimit.
	Amount, Limit int64
	SetsLimit     bool
	// Hold is the id of a hold, and Movement names the movement of Moved that is reversed. Whole says that Amount is what was left of
	// it, as the response says.
	Hold, Movement string
	Moved          int64
	Whole, Forced  bool
	Fate           Fate
	Code           string
	// Version is the version in the response. If no response says it, it is 0, and Complete finds it by Position.
	Version, Position int64
	// Balance, Held and Available are what a read returned.
	Balance, Held, Available int64
	// AtLeast is the version of the event whose position a read waited for.
	AtLeast int64
	// From and To are the times of request and response. A read with a min_position may show any state since that
	// position's command was sent: its From is that of the command.
	From, To time.Time
}

// ledger is the model's state of an account.
type ledger struct {
	status                        string
	balance, limit, held, version int64
	holds                         tally // that are open
	reversed                      tally // of movements
}

func (l ledger) available() int64 { return l.balance + l.limit - l.held }

// tally is numbers by id, in a value that can be compared.
type tally string

func (t tally) find(id string) (n int64, ok bool) {
	_, rest, ok := strings.Cut(string(t), ";"+id+"=")
	digits, _, _ := strings.Cut(rest, ";")
	n, _ = strconv.ParseInt(digits, 10, 64)
	return n, ok
}

func (t tally) without(id string) tally {
	before, rest, ok := strings.Cut(string(t), ";"+id+"=")
	if !ok {
		return t
	}
	_, after, more := strings.Cut(rest, ";")
	if more {
		before += ";" + after
	}
	return tally(before)
}

func (t tally) with(id string, n int64) tally {
	return t.without(id) + tally(";"+id+"="+strconv.FormatInt(n, 10))
}

// next returns the state after an applied command; ok is false if the rules do not allow it.
func (l ledger) next(s *Step) (after ledger, ok bool) {
	after = l
	after.version++
	active, closed := l.status == "active", l.status == "" || l.status == "closed"
	switch s.Kind {
	case "open":
		after.status, after.limit = "active", s.Limit
		return after, l.status == ""
	case "credit":
		after.balance += s.Amount
		return after, active
	case "debit":
		after.balance -= s.Amount
		return after, active && (s.Forced || s.Amount <= l.available())
	case "suspend":
		after.status = "suspended"
		return after, active
	case "reactivate":
		after.status = "active"
		return after, l.status == "suspended"
	case "close":
		after.status = "closed"
		return after, !closed && l.balance == 0 && l.held == 0
	case "change":
		if s.SetsLimit {
			after.limit = s.Limit
		}
		return after, !closed && (after.limit >= l.limit || after.available() >= 0)
	case "hold":
		_, placed := l.holds.find(s.Hold)
		after.held += s.Amount
		after.holds = l.holds.with(s.Hold, s.Amount)
		return after, active && !placed && s.Amount <= l.available()
	case "capture", "release", "expire":
		amount, open := l.holds.find(s.Hold)
		after.held -= amount
		after.holds = l.holds.without(s.Hold)
		return after, open && (s.Kind != "capture" || active && s.Amount <= amount)
	case "take-back", "give-back":
		return l.reverse(s, after)
	}
	return l, false
}

func (l ledger) reverse(s *Step, after ledger) (_ ledger, ok bool) {
	before, _ := l.reversed.find(s.Movement)
	amount := s.Amount
	if s.Whole {
		amount = s.Moved - before
	}
	after.reversed = l.reversed.with(s.Movement, before+amount)
	ok = l.status == "active" && amount > 0 && before+amount <= s.Moved && (s.Fate != Applied || amount == s.Amount)
	if s.Kind == "give-back" {
		after.balance += amount
		return after, ok
	}
	after.balance -= amount
	return after, ok && (s.Forced || amount <= l.available())
}

// step reports whether an operation is possible on an account in a state, and which state follows.
func (l ledger) step(s *Step) (bool, ledger) {
	after, allowed := l.next(s)
	switch {
	case s.Kind == "read":
		return s.Version == l.version && s.Balance == l.balance && s.Held == l.held && s.Available == l.available() &&
			l.version >= s.AtLeast, l
	case s.Fate == Applied:
		return allowed && after.version == s.Version, after
	case s.Fate == Refused:
		return !allowed, l
	case allowed: // outcome unknown: it has no end, and is ordered last if it never happened
		return true, after
	}
	return true, l
}

var model = porcupine.Model{
	Init: func() any { return ledger{} },
	Step: func(state, input, _ any) (bool, any) { return state.(ledger).step(input.(*Step)) },
}

const (
	versionsSQL = `select position, version from events where position = any ($1)`

	expiriesSQL = `select stream_id::text, version, payload ->> 'hold_id' from events where type = 'HoldExpired' and stream_id = any ($1::text[]::uuid[])`
)

// Complete returns the steps with what only the log knows: the versions of those whose response was about another account, and
// the expiries of holds, which no client sends.
func Complete(ctx context.Context, conn *pgx.Conn, steps []Step) ([]Step, error) {
	var positions []int64
	accounts := make(map[string]bool)
	for i := range steps {
		accounts[steps[i].Account] = true
		if steps[i].Position > 0 {
			positions = append(positions, steps[i].Position)
		}
	}
	var position, version int64
	versions := make(map[int64]int64, len(positions))
	err := each(ctx, conn, []any{&position, &version}, func() error {
		versions[position] = version
		return nil
	}, versionsSQL, positions)
	if err != nil {
		return nil, fmt.Errorf("oracle: versions: %w", err)
	}
	for i := range steps {
		if at := steps[i].Position; at > 0 {
			steps[i].Version = versions[at]
		}
	}
	// The versions bound when it was.
	expired := Step{Kind: "expire", Fate: Applied, From: time.Unix(0, 0), To: time.Unix(1<<33, 0)}
	err = each(ctx, conn, []any{&expired.Account, &expired.Version, &expired.Hold}, func() error {
		steps = append(steps, expired)
		return nil
	}, expiriesSQL, slices.Collect(maps.Keys(accounts)))
	if err != nil {
		return nil, fmt.Errorf("oracle: expiries: %w", err)
	}
	return steps, nil
}

// CheckLinear checks that the operations on each account can have happened one after another, each between its request and
// its response. It gives up on an account after the limit, which is a violation too.
func CheckLinear(steps []Step, limit time.Duration) []Violation {
	accounts := make(map[string][]porcupine.Operation)
	for i := range steps {
		s := &steps[i]
		op := porcupine.Operation{ClientId: s.Client, Input: s, Call: s.From.UnixNano(), Return: s.To.UnixNano()}
		if s.Fate == Unknown {
			op.Return = math.MaxInt64
		}
		accounts[s.Account] = append(accounts[s.Account], op)
	}
	for account, history := range accounts {
		tighten(history)
		accounts[account] = prune(history)
	}
	var found []Violation
	for _, account := range slices.Sorted(maps.Keys(accounts)) {
		history := accounts[account]
		switch porcupine.CheckOperationsTimeout(model, history, limit) {
		case porcupine.Illegal:
			found = append(found, Violation{"linearizability", fmt.Sprintf("no order explains the %d operations on account %s%s", len(history), account, suspect(history))})
		case porcupine.Unknown:
			found = append(found, Violation{"linearizability", fmt.Sprintf("not decided within %s for the %d operations on account %s%s", limit, len(history), account, suspect(history))})
		case porcupine.Ok:
		}
	}
	return found
}

// tighten narrows the interval of each operation by the versions: the state of version v begins after every command up to v
// was sent, and ends before any command after v got its response. It does not change whether a history is linearizable, but
// without it the search is exponential in the operations that overlap with a stalled client.
func tighten(history []porcupine.Operation) {
	var newest int64
	for i := range history {
		newest = max(newest, history[i].Input.(*Step).Version)
	}
	sent, answered := make([]int64, newest+2), make([]int64, newest+2)
	for v := range answered {
		answered[v] = math.MaxInt64
	}
	for i := range history {
		if s := history[i].Input.(*Step); s.Fate == Applied && s.Kind != "read" {
			sent[s.Version] = max(sent[s.Version], history[i].Call)
			answered[s.Version] = min(answered[s.Version], history[i].Return)
		}
	}
	for v := range newest + 1 {
		sent[v+1] = max(sent[v+1], sent[v])
		answered[newest-v] = min(answered[newest-v], answered[newest-v+1])
	}
	for i := range history {
		op, s := &history[i], history[i].Input.(*Step)
		if s.Fate != Applied {
			continue
		}
		end := answered[s.Version]
		if s.Kind == "read" {
			end = answered[s.Version+1]
		}
		op.Call = max(op.Call, sent[s.Version])
		op.Return = max(min(op.Return, end), op.Call) // the model refuses one with an empty interval
	}
}

// prune removes each read whose interval contains that of another read of the same state: if the other fits, so does it.
func prune(history []porcupine.Operation) []porcupine.Operation {
	slices.SortStableFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	latest := make(map[Step]int64) // by state: when the last of the kept reads began
	return slices.DeleteFunc(history, func(op porcupine.Operation) bool {
		s := op.Input.(*Step)
		if s.Kind != "read" || s.Version < s.AtLeast {
			return false
		}
		saw := Step{Version: s.Version, Balance: s.Balance, Held: s.Held, Available: s.Available}
		if begun, kept := latest[saw]; kept && begun >= op.Call {
			return true
		}
		latest[saw] = op.Call
		return false
	})
}

// suspect names, to explain a violation, an operation that fits no state of any version; "" if each fits some state on its
// own.
func suspect(history []porcupine.Operation) string {
	applied := make(map[int64]*porcupine.Operation)
	for i := range history {
		if s := history[i].Input.(*Step); s.Fate == Applied && s.Kind != "read" {
			applied[s.Version] = &history[i]
		}
	}
	states := []ledger{{}}
	for v := int64(1); applied[v] != nil; v++ {
		ok, after := states[v-1].step(applied[v].Input.(*Step))
		if !ok {
			return fmt.Sprintf(": %+v on %+v", *applied[v].Input.(*Step), states[v-1])
		}
		states = append(states, after)
	}
	for i := range history {
		op, s := &history[i], history[i].Input.(*Step)
		fits := s.Fate == Unknown || s.Fate == Applied && s.Kind != "read"
		for v := range states {
			begins, ends := int64(math.MinInt64), int64(math.MaxInt64)
			if v > 0 {
				begins = applied[int64(v)].Call
			}
			if next := applied[int64(v)+1]; next != nil {
				ends = next.Return
			}
			if fits = fits || op.Call <= ends && op.Return >= begins && first(states[v].step(s)); fits {
				break
			}
		}
		if !fits {
			return fmt.Sprintf(": %+v fits no state; there are %d versions", *s, len(states)-1)
		}
	}
	return fmt.Sprintf("; each on its own fits one of the %d versions", len(states)-1)
}

func first(ok bool, _ ledger) bool { return ok }
