package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/money"
	"passbook/internal/pgtest"
)

// TestRandomCommandsAgainstModel runs random commands one after another, alone and several in one call, through one service or
// alternating between two, each with a cache for all accounts or for almost none.
func TestRandomCommandsAgainstModel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ instances, cache int }{{1, 1000}, {1, 1}, {2, 1000}, {2, 2}} {
		t.Run(fmt.Sprintf("%d instances, cache of %d", test.instances, test.cache), func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			var services []*command.Service
			for range test.instances {
				services = append(services, second(t, url, cacheSize(test.cache)))
			}
			rapid.Check(t, func(t *rapid.T) { runModel(t, services) })
			checkLog(t, newPool(t, url))
		})
	}
}

func runModel(t *rapid.T, services []*command.Service) {
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	m := newModel(ids)
	type done struct {
		request command.Request
		answer  answered
	}
	var past []done
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		s := services[rapid.IntRange(0, len(services)-1).Draw(t, "instance")]
		switch how := rapid.IntRange(0, 19).Draw(t, "how"); {
		case how < 2 && len(past) > 0:
			p := rapid.SampledFrom(past).Draw(t, "past")
			result, err := s.Do(t.Context(), p.request)
			if again := (&answered{result, err}); !again.replayed() || again.text(p.request) != p.answer.text(p.request) {
				t.Fatalf("replay of %+v: %+v, first %+v", p.request, again, p.answer)
			}
		case how < 4:
			dryRunModel(t, s, m, ids)
		case how < 8:
			m = severalModel(t, s, m, ids, how < 6)
		default:
			r := drawRequest(t, m, ids)
			result, err := s.Do(t.Context(), r)
			want := m.apply(r)
			if got := codeOf(err); got != want {
				t.Fatalf("%T%+v: %q, want %q", r.Command, r, got, want)
			}
			m.learn(result)
			past = append(past, done{r, answered{result, err}})
			checkVersions(t, m, result)
		}
	}
}

// dryRunModel makes a dry run, which does not change the model.
func dryRunModel(t *rapid.T, s *command.Service, m *model, ids []uuid.UUID) {
	r := dryRun(drawRequest(t, m, ids))
	result, err := s.Do(t.Context(), r)
	after := m.clone()
	if got, want := codeOf(err), after.apply(r); got != want {
		t.Fatalf("dry run of %T%+v: %q, want %q", r.Command, r, got, want)
	}
	if err == nil {
		checkVersions(t, after, result)
		if a := after.accounts[result.Events[0].AccountID]; result.After.Balance != a.balance || result.After.Held != a.held {
			t.Fatalf("dry run of %T%+v: %+v, want %+v", r.Command, r, result.After, a)
		}
	}
}

// severalModel runs several commands in one call, all or none if atomic, and returns the model after it.
func severalModel(t *rapid.T, s *command.Service, m *model, ids []uuid.UUID, atomic bool) *model {
	after := m.clone()
	var requests []command.Request
	var want []string
	refused := -1
	for i := range rapid.IntRange(2, 5).Draw(t, "commands") {
		requests = append(requests, drawRequest(t, after, ids))
		want = append(want, after.apply(requests[i]))
		if want[i] != "" && refused < 0 {
			refused = i
		}
	}
	if atomic {
		results, err := s.DoAll(t.Context(), requests)
		item, _ := errors.AsType[*command.ItemError](err)
		if refused >= 0 && (item == nil || item.Index != refused || codeOf(err) != want[refused]) || refused < 0 && err != nil {
			t.Fatalf("all of %+v: %v, want %q", requests, err, want)
		}
		if refused >= 0 {
			return m
		}
		after.learn(results...)
		return after
	}
	for i, o := range s.DoEach(t.Context(), requests) {
		if got := codeOf(o.Err); got != want[i] {
			t.Fatalf("command %d of %+v: %q, want %q", i, requests, got, want[i])
		}
		after.learn(o.Result)
	}
	return after
}

// checkVersions compares the last event of each account with the model.
func checkVersions(t *rapid.T, m *model, result command.Result) {
	versions := make(map[uuid.UUID]int64)
	for _, e := range result.Events {
		versions[e.AccountID] = e.Version
	}
	for id, version := range versions {
		if version != m.accounts[id].version {
			t.Fatalf("%+v: the model is at version %d", result, m.accounts[id].version)
		}
	}
}

func drawRequest(t *rapid.T, m *model, ids []uuid.UUID) command.Request {
	id := rapid.SampledFrom(ids).Draw(t, "account")
	a := m.accounts[id]
	amount := cents(rapid.Int64Range(1, 2000).Draw(t, "amount"))
	if a.status != "" && rapid.Bool().Draw(t, "all of it") {
		amount = cents(max(1, a.balance))
	}
	to := rapid.SampledFrom(ids).Draw(t, "to")
	var part *money.Decimal
	if rapid.Bool().Draw(t, "a part") {
		part = &amount
	}
	capture := account.CaptureHold{HoldID: drawID(t, m.holds), Amount: part}
	if rapid.Bool().Draw(t, "to another") {
		capture.To = to
	}
	kinds := []account.Command{
		account.Deposit{Amount: amount},
		account.Withdraw{Amount: amount},
		account.Suspend{},
		account.Reactivate{},
		account.Close{},
		account.Transfer{TransferID: drawID(t, m.transfers), To: to, Amount: amount},
		account.PlaceHold{HoldID: drawID(t, m.holds), Amount: amount},
		capture,
		account.ReleaseHold{HoldID: drawID(t, m.holds)},
		account.Reverse{Position: drawPosition(t, m), Amount: part},
		account.Open{
			Owner: "Ada", Currency: rapid.SampledFrom([]money.Currency{eur, eur, eur, currency("USD")}).Draw(t, "currency"),
			OverdraftLimit: new(cents(rapid.SampledFrom([]int64{0, 0, 500}).Draw(t, "limit"))),
		},
	}
	kind := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 5, 6, 6, 7, 7, 8, 9, 9, 9, 10}).Draw(t, "command")
	if a.status == "" && rapid.IntRange(0, 3).Draw(t, "open") > 0 {
		kind = len(kinds) - 1
	}
	if h := m.holds[capture.HoldID]; h != nil && kind == 7 && rapid.IntRange(0, 9).Draw(t, "of the account") > 0 {
		id = h.account
	}
	r := keyed(request(id, kinds[kind]))
	if _, reverses := r.Command.(account.Reverse); reverses {
		r.AccountID = uuid.Nil
	} else if slices.Contains([]int{0, 1}, rapid.IntRange(0, 5).Draw(t, "if-match")) {
		r.IfVersions = []int64{m.accounts[id].version + rapid.SampledFrom([]int64{0, 0, 0, 1, -1}).Draw(t, "off")}
	}
	return r
}

// drawID draws an id that is taken, or a new one.
func drawID[V any](t *rapid.T, used map[uuid.UUID]V) uuid.UUID {
	ids := slices.SortedFunc(maps.Keys(used), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	if len(ids) > 0 && rapid.Bool().Draw(t, "used") {
		return rapid.SampledFrom(ids).Draw(t, "id")
	}
	return uuid.New()
}

// drawPosition draws the position of a movement (of a transfer, of either side) or sometimes one without a movement.
func drawPosition(t *rapid.T, m *model) int64 {
	moves := slices.DeleteFunc(slices.Clone(m.moves), func(v modelMove) bool { return v.position == 0 })
	if len(moves) == 0 || rapid.IntRange(0, 9).Draw(t, "nothing") == 0 {
		return 1 << 40
	}
	v := moves[rapid.IntRange(max(0, len(moves)-3), len(moves)-1).Draw(t, "movement")]
	if v.from != uuid.Nil && v.to != uuid.Nil && rapid.Bool().Draw(t, "received") {
		return v.position + 1
	}
	return v.position
}
