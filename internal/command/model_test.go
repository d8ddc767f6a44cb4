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

// modelAccount is an account as simply as it can be said.
type modelAccount struct {
	status               string // "", "active", "suspended" or "closed"
	currency             string
	balance, limit, held int64
	version              int64
}

func (a *modelAccount) frozen() string {
	switch a.status {
	case "suspended":
		return account.CodeAccountSuspended
	case "closed":
		return account.CodeAccountClosed
	}
	return ""
}

// modelHold is a hold that was placed.
type modelHold struct {
	account uuid.UUID
	amount  int64
	ended   bool
}

// modelMove is a movement of money; an id is nil for outside.
type modelMove struct {
	from, to uuid.UUID
	left     int64 // that has not been reversed
	// position is 0 until an answer has said it. The other side of a transfer is at the next.
	position int64
}

// model is all accounts, holds and movements.
type model struct {
	accounts  map[uuid.UUID]*modelAccount
	holds     map[uuid.UUID]*modelHold
	transfers map[uuid.UUID]bool
	moves     []modelMove
}

func newModel(ids []uuid.UUID) *model {
	m := &model{make(map[uuid.UUID]*modelAccount), make(map[uuid.UUID]*modelHold), make(map[uuid.UUID]bool), nil}
	for _, id := range ids {
		m.accounts[id] = new(modelAccount)
	}
	return m
}

func (m *model) clone() *model {
	c := &model{make(map[uuid.UUID]*modelAccount), make(map[uuid.UUID]*modelHold), maps.Clone(m.transfers), slices.Clone(m.moves)}
	for id, a := range m.accounts {
		c.accounts[id] = new(*a)
	}
	for id, h := range m.holds {
		c.holds[id] = new(*h)
	}
	return c
}

// apply says what becomes of a request, and does it: "" when it is done, or the code of the refusal, or "not found",
// "exists" or "version".
func (m *model) apply(r command.Request) string {
	if c, ok := r.Command.(account.Reverse); ok {
		return m.reverse(c)
	}
	a := m.accounts[r.AccountID]
	if r.IfVersions != nil && !slices.Contains(r.IfVersions, a.version) {
		if a.version == 0 {
			return "not found"
		}
		return "version"
	}
	code := m.command(a, r)
	if code == "" {
		a.version++
	}
	return code
}

func (m *model) command(a *modelAccount, r command.Request) string {
	switch c := r.Command.(type) {
	case account.Transfer:
		return m.transfer(a, r.AccountID, c)
	case account.CaptureHold:
		return m.capture(a, r.AccountID, c)
	case account.PlaceHold:
		return m.hold(a, r.AccountID, c)
	case account.ReleaseHold:
		h := m.holds[c.HoldID]
		switch {
		case h == nil || h.account != r.AccountID:
			return "not found"
		case h.ended:
			return account.CodeHoldNotOpen
		}
		h.ended = true
		a.held -= h.amount
		return ""
	case account.Open:
		if a.status != "" {
			return "exists"
		}
		a.status, a.currency = "active", c.Currency.Code()
		if c.OverdraftLimit != nil {
			a.limit = minor(*c.OverdraftLimit, a.currency)
		}
		return ""
	}
	if a.status == "" {
		return "not found"
	}
	switch c := r.Command.(type) {
	case account.Deposit:
		return m.move(uuid.Nil, r.AccountID, minor(c.Amount, a.currency))
	case account.Withdraw:
		return m.move(r.AccountID, uuid.Nil, minor(c.Amount, a.currency))
	case account.Suspend:
		if a.frozen() != "" {
			return a.frozen()
		}
		a.status = "suspended"
	case account.Reactivate:
		if a.status == "active" {
			return account.CodeAccountNotSuspended
		}
		if a.status == "closed" {
			return account.CodeAccountClosed
		}
		a.status = "active"
	case account.Close:
		if a.status == "closed" {
			return account.CodeAccountClosed
		}
		if a.balance != 0 {
			return account.CodeBalanceNotZero
		}
		if a.held != 0 {
			return account.CodeHoldsOpen
		}
		a.status = "closed"
	}
	return ""
}

// move moves money on accounts that exist, and records the movement.
func (m *model) move(from, to uuid.UUID, amount int64) string {
	for _, id := range []uuid.UUID{from, to} {
		if a := m.accounts[id]; a != nil && a.frozen() != "" {
			return a.frozen()
		}
	}
	if a := m.accounts[from]; a != nil {
		if amount > a.balance+a.limit-a.held {
			return account.CodeInsufficientFunds
		}
		a.balance -= amount
	}
	if a := m.accounts[to]; a != nil {
		a.balance += amount
	}
	m.moves = append(m.moves, modelMove{from: from, to: to, left: amount})
	return ""
}

func (m *model) transfer(from *modelAccount, id uuid.UUID, c account.Transfer) string {
	to := m.accounts[c.To]
	switch {
	case m.transfers[c.TransferID]:
		return "exists"
	case from == to:
		return account.CodeSameAccount
	case from.status == "" || to.status == "":
		return "not found"
	case from.frozen() != "":
		return from.frozen()
	case to.frozen() != "":
		return to.frozen()
	case from.currency != to.currency:
		return account.CodeCurrencyMismatch
	}
	if code := m.move(id, c.To, minor(c.Amount, from.currency)); code != "" {
		return code
	}
	m.transfers[c.TransferID] = true
	to.version++
	return ""
}

func (m *model) hold(a *modelAccount, id uuid.UUID, c account.PlaceHold) string {
	switch {
	case m.holds[c.HoldID] != nil:
		return "exists"
	case a.status == "":
		return "not found"
	case a.frozen() != "":
		return a.frozen()
	}
	amount := minor(c.Amount, a.currency)
	if amount > a.balance+a.limit-a.held {
		return account.CodeInsufficientFunds
	}
	a.held += amount
	m.holds[c.HoldID] = &modelHold{account: id, amount: amount}
	return ""
}

func (m *model) capture(a *modelAccount, id uuid.UUID, c account.CaptureHold) string {
	h, to := m.holds[c.HoldID], m.accounts[c.To]
	if h != nil && h.account != id {
		h = nil
	}
	switch {
	case h != nil && h.ended:
		return account.CodeHoldNotOpen
	case a == to:
		return account.CodeSameAccount
	case a.status == "" || to != nil && to.status == "":
		return "not found"
	case a.frozen() != "":
		return a.frozen()
	case h == nil:
		return "not found"
	}
	amount := h.amount
	if c.Amount != nil {
		if amount = minor(*c.Amount, a.currency); amount > h.amount {
			return account.CodeAmountAboveHold
		}
	}
	if to != nil {
		if to.frozen() != "" {
			return to.frozen()
		}
		if to.currency != a.currency {
			return account.CodeCurrencyMismatch
		}
		to.version++
	}
	h.ended = true
	a.held -= h.amount
	a.version++
	return m.move(id, c.To, amount)
}

func (m *model) reverse(c account.Reverse) string {
	n := slices.IndexFunc(m.moves, func(v modelMove) bool {
		return v.position == c.Position || v.from != uuid.Nil && v.to != uuid.Nil && v.position+1 == c.Position
	})
	if n < 0 {
		return "not found"
	}
	v := &m.moves[n]
	own, other := m.accounts[v.from], m.accounts[v.to]
	if own == nil || v.position != c.Position {
		own, other = other, own
	}
	amount := v.left
	if c.Amount != nil {
		amount = minor(*c.Amount, own.currency)
	}
	switch {
	case v.left == 0:
		return account.CodeAlreadyReversed
	case amount > v.left:
		return account.CodeAmountAboveMovement
	case own.frozen() != "":
		return own.frozen()
	case other != nil && other.frozen() != "":
		return other.frozen()
	}
	if to := m.accounts[v.to]; to != nil {
		if amount > to.balance+to.limit-to.held {
			return account.CodeInsufficientFunds
		}
		to.balance -= amount
		to.version++
	}
	if from := m.accounts[v.from]; from != nil {
		from.balance += amount
		from.version++
	}
	v.left -= amount
	return ""
}

// learn takes the positions of the movements from the answers, in order.
func (m *model) learn(results ...command.Result) {
	n := slices.IndexFunc(m.moves, func(v modelMove) bool { return v.position == 0 })
	for _, result := range results {
		for _, e := range result.Events {
			switch e.Event.(type) {
			case account.MoneyDeposited, account.MoneyWithdrawn, account.TransferSent:
				m.moves[n].position = e.Position
				n++
			}
		}
	}
}

func minor(d money.Decimal, code string) int64 {
	a, err := d.In(currency(code))
	if err != nil {
		panic(err)
	}
	return a.Minor()
}

// codeOf names an error of Do as the model does.
func codeOf(err error) string {
	var refusal *account.Refusal
	var version *command.VersionError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Code
	case errors.As(err, &version):
		return "version"
	case errors.Is(err, account.ErrNotFound), errors.Is(err, account.ErrHoldNotFound), errors.Is(err, account.ErrMovementNotFound):
		return "not found"
	case errors.Is(err, account.ErrExists), errors.Is(err, account.ErrTransferExists), errors.Is(err, account.ErrHoldExists):
		return "exists"
	}
	return "unexpected: " + err.Error()
}

// TestAgainstAModel runs random commands one after another, alone and several in one call, through one service and through two by
// turns, each with a cache that holds all accounts or next to none.
func TestAgainstAModel(t *testing.T) {
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

// dryRunModel makes a dry run, which leaves the model as it is.
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

// drawID draws an id that is used, or a new one.
func drawID[V any](t *rapid.T, used map[uuid.UUID]V) uuid.UUID {
	ids := slices.SortedFunc(maps.Keys(used), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	if len(ids) > 0 && rapid.Bool().Draw(t, "used") {
		return rapid.SampledFrom(ids).Draw(t, "id")
	}
	return uuid.New()
}

// drawPosition draws the position of a movement, of either side if it is a transfer, or now and then one of nothing.
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
