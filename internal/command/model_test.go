package command_test

import (
	"errors"
	"fmt"
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
	status         string // "", "active", "suspended" or "closed"
	currency       string
	balance, limit int64
	version        int64
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

type model map[uuid.UUID]*modelAccount

// apply says what becomes of a request, and does it: "" when it is done, or the code of the refusal, or "not found",
// "exists" or "version".
func (m model) apply(r command.Request) string {
	a := m[r.AccountID]
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

func (m model) command(a *modelAccount, r command.Request) string {
	if c, ok := r.Command.(account.Transfer); ok {
		return m.transfer(a, m[c.To], c)
	}
	if c, ok := r.Command.(account.Open); ok {
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
		return a.move(minor(c.Amount, a.currency))
	case account.Withdraw:
		return a.move(-minor(c.Amount, a.currency))
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
		a.status = "closed"
	}
	return ""
}

func (a *modelAccount) move(by int64) string {
	if a.frozen() != "" {
		return a.frozen()
	}
	if by < 0 && a.balance+by < -a.limit {
		return account.CodeInsufficientFunds
	}
	a.balance += by
	return ""
}

func (m model) transfer(from, to *modelAccount, c account.Transfer) string {
	switch {
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
	if code := from.move(-minor(c.Amount, from.currency)); code != "" {
		return code
	}
	to.version++
	return to.move(minor(c.Amount, to.currency))
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
	case errors.Is(err, account.ErrNotFound):
		return "not found"
	case errors.Is(err, account.ErrExists):
		return "exists"
	}
	return "unexpected: " + err.Error()
}

// TestAgainstAModel runs random commands one after another through one service and through two by turns, each with a
// cache that holds all accounts or next to none.
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
	m := make(model)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for _, id := range ids {
		m[id] = new(modelAccount)
	}
	type done struct {
		request command.Request
		answer  answered
	}
	var past []done
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		s := services[rapid.IntRange(0, len(services)-1).Draw(t, "instance")]
		if len(past) > 0 && rapid.IntRange(0, 9).Draw(t, "again") == 0 {
			p := rapid.SampledFrom(past).Draw(t, "past")
			result, err := s.Do(t.Context(), p.request)
			if again := (&answered{result, err}); !again.replayed() || again.text(p.request) != p.answer.text(p.request) {
				t.Fatalf("replay of %+v: %+v, first %+v", p.request, again, p.answer)
			}
			continue
		}
		r := drawRequest(t, m, ids)
		result, err := s.Do(t.Context(), r)
		want := m.apply(r)
		if got := codeOf(err); got != want {
			t.Fatalf("%T%+v: %q, want %q", r.Command, r, got, want)
		}
		past = append(past, done{r, answered{result, err}})
		for _, e := range result.Events {
			if e.Version != m[e.AccountID].version {
				t.Fatalf("%+v: the model is at version %d", e, m[e.AccountID].version)
			}
		}
	}
}

func drawRequest(t *rapid.T, m model, ids []uuid.UUID) command.Request {
	id := rapid.SampledFrom(ids).Draw(t, "account")
	amount := cents(rapid.Int64Range(1, 2000).Draw(t, "amount"))
	if m[id].status != "" && rapid.Bool().Draw(t, "all of it") {
		amount = cents(max(1, m[id].balance))
	}
	kinds := []account.Command{
		account.Deposit{Amount: amount},
		account.Withdraw{Amount: amount},
		account.Suspend{},
		account.Reactivate{},
		account.Close{},
		account.Transfer{TransferID: uuid.New(), To: rapid.SampledFrom(ids).Draw(t, "to"), Amount: amount},
	}
	kind := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 5, 5, 6}).Draw(t, "command")
	if m[id].status == "" && rapid.IntRange(0, 3).Draw(t, "open") > 0 {
		kind = len(kinds)
	}
	kinds = append(kinds, account.Open{
		Owner: "Ada", Currency: rapid.SampledFrom([]money.Currency{eur, eur, eur, currency("USD")}).Draw(t, "currency"),
		OverdraftLimit: new(cents(rapid.SampledFrom([]int64{0, 0, 500}).Draw(t, "limit"))),
	})
	r := keyed(request(id, kinds[kind]))
	if slices.Contains([]int{0, 1}, rapid.IntRange(0, 5).Draw(t, "if-match")) {
		r.IfVersions = []int64{m[id].version + rapid.SampledFrom([]int64{0, 0, 0, 1, -1}).Draw(t, "off")}
	}
	return r
}
