package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Step is one operation on one account, as the client saw it, for CheckLinear.
type Step struct {
	Client  int
	Account string
	// Kind is open, credit, debit, suspend, reactivate, close or read.
	Kind          string
	Amount, Limit int64
	Fate          Fate
	Code          string
	// Version is what the answer named; Balance that of a read.
	Version, Balance int64
	// AtLeast is the version of the event whose position a read has asked for.
	AtLeast int64
	// From and To are when it was sent and when it was answered. A read with a min_position may be of any state since
	// that position was sent to the log: its From is that of the command it waits for.
	From, To time.Time
}

// ledger is the model's state of an account.
type ledger struct {
	status                  string
	balance, limit, version int64
}

// next is the state after a command that is applied; ok says whether the rules allow it.
func (l ledger) next(s *Step) (after ledger, ok bool) {
	after = l
	after.version++
	switch s.Kind {
	case "open":
		after.status, after.limit = "active", s.Limit
		return after, l.status == ""
	case "credit":
		after.balance += s.Amount
		return after, l.status == "active"
	case "debit":
		after.balance -= s.Amount
		return after, l.status == "active" && after.balance >= -l.limit
	case "suspend":
		after.status = "suspended"
		return after, l.status == "active"
	case "reactivate":
		after.status = "active"
		return after, l.status == "suspended"
	case "close":
		after.status = "closed"
		return after, l.status != "" && l.status != "closed" && l.balance == 0
	}
	return l, false
}

// step tells whether an operation may be what happened to an account in a state, and which it leaves.
func (l ledger) step(s *Step) (bool, ledger) {
	after, allowed := l.next(s)
	switch {
	case s.Kind == "read":
		return s.Version == l.version && s.Balance == l.balance && l.version >= s.AtLeast, l
	case s.Fate == Applied:
		return allowed && after.version == s.Version, after
	case s.Fate == Refused:
		return !allowed, l
	case allowed: // nothing is known: it has no end, and comes last if it never happened
		return true, after
	}
	return true, l
}

var model = porcupine.Model{
	Init: func() any { return ledger{} },
	Step: func(state, input, _ any) (bool, any) { return state.(ledger).step(input.(*Step)) },
}

// CheckLinear tells whether the operations on each account can have happened one after the other, each between when it
// was sent and when it was answered. It gives up on an account after the limit, which counts as a violation too.
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

// tighten narrows when each operation can have happened to what the versions say: the state of version v begins after
// every command up to v was sent, and ends before any after v was answered. No history becomes explicable by it or ceases
// to be; but without it the search is exponential in what a stalled client overlaps with.
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
		op.Return = max(min(op.Return, end), op.Call) // one that has nowhere to be is refused by the model
	}
}

// prune leaves out each read that another one of the same state answers for: one whose time lies within its own. Where
// that one fits, both do.
func prune(history []porcupine.Operation) []porcupine.Operation {
	slices.SortStableFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	latest := make(map[Step]int64) // when the last of the reads that are kept began, by what they saw
	return slices.DeleteFunc(history, func(op porcupine.Operation) bool {
		s := op.Input.(*Step)
		if s.Kind != "read" || s.Version < s.AtLeast {
			return false
		}
		saw := Step{Version: s.Version, Balance: s.Balance}
		if begun, kept := latest[saw]; kept && begun >= op.Call {
			return true
		}
		latest[saw] = op.Call
		return false
	})
}

// suspect names, for the reader of a violation, an operation that fits none of the states that the versions make; empty
// when each fits one by itself.
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
	return fmt.Sprintf("; each fits one of the %d versions by itself", len(states)-1)
}

func first(ok bool, _ ledger) bool { return ok }
