package account_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

// TestErasedAccount expects an erased account to go on without a name, and to take no text any more.
func TestErasedAccount(t *testing.T) {
	t.Parallel()
	eur, _ := money.LookupCurrency("EUR")
	ten, _ := money.ParseDecimal("10")
	erased, other, subject := uuid.New(), uuid.New(), uuid.New()
	labels := account.NewMetadata(map[string]string{"name": "Ada"})
	states := map[uuid.UUID]account.State{}
	do := func(id uuid.UUID, c account.Command) ([]account.Entry, error) {
		entries, err := account.Decide(noon, id, c, func(id uuid.UUID) account.State { return states[id] })
		for _, e := range entries {
			var evolveErr error
			if states[e.AccountID], evolveErr = account.Evolve(states[e.AccountID], e.Event); evolveErr != nil {
				t.Fatalf("%s: %v", c.Name(), evolveErr)
			}
		}
		return entries, err
	}
	must := func(id uuid.UUID, c account.Command) []account.Entry {
		t.Helper()
		entries, err := do(id, c)
		if err != nil {
			t.Fatalf("%s: %v", c.Name(), err)
		}
		return entries
	}
	refused := func(id uuid.UUID, c account.Command) {
		t.Helper()
		_, err := do(id, c)
		if refusal, ok := errors.AsType[*account.Refusal](err); !ok || refusal.Code != account.CodeAccountErased {
			t.Errorf("%s: got %v", c.Name(), err)
		}
	}
	if _, err := do(erased, account.EraseSubject{SubjectID: subject}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("erasing no account: %v", err)
	}
	must(erased, account.Open{Owner: "Ada", Currency: eur, Metadata: labels, SubjectID: subject})
	must(other, account.Open{Owner: "Bob", Currency: eur})
	must(erased, account.EraseSubject{SubjectID: subject})
	if s := states[erased]; s.Owner != "" || !s.Metadata.IsEmpty() || !s.Erased || s.SubjectID != subject {
		t.Errorf("erased: %+v", s)
	}
	refused(erased, account.EraseSubject{SubjectID: subject})
	refused(erased, account.Change{Owner: new("Ada")})
	refused(erased, account.Change{ClearMetadata: true})
	must(erased, account.Change{OverdraftLimit: &ten})
	if got := must(erased, account.Deposit{Amount: ten, Reference: "of Ada", Metadata: labels})[0].Event; got != (account.MoneyDeposited{Amount: money.New(1000, eur)}) {
		t.Errorf("the deposit keeps text: %+v", got)
	}
	must(other, account.Deposit{Amount: ten, Reference: "kept"})
	transfer := must(other, account.Transfer{To: erased, Amount: ten, Reference: "to Ada", TransferID: subject})
	if sent := transfer[0].Event.(account.TransferSent); sent.Reference != "to Ada" {
		t.Errorf("the sender's side has lost its text: %+v", sent)
	}
	if received := transfer[1].Event.(account.TransferReceived); received.Reference != "" {
		t.Errorf("the erased side keeps text: %+v", received)
	}
	for _, c := range []account.Command{
		account.PlaceHold{HoldID: subject, Amount: ten, Reference: "of Ada", Metadata: labels},
		account.ReleaseHold{HoldID: subject, Reason: "of Ada"},
		account.Withdraw{Amount: ten, Reference: "of Ada", Metadata: labels},
		account.Withdraw{Amount: ten, Reference: "of Ada", Metadata: labels},
		account.Suspend{Reason: "of Ada"},
		account.Reactivate{Reason: "of Ada"},
		account.Close{Reason: "of Ada"},
	} {
		for _, e := range must(erased, c) {
			if payload, err := eventjson.Encode(e.Event); err != nil || strings.Contains(string(payload.Payload), "Ada") {
				t.Errorf("%s keeps text: %s, %v", c.Name(), payload.Payload, err)
			}
		}
	}
	must(other, account.Close{})
	must(other, account.EraseSubject{SubjectID: other}) // closed accounts can be erased too
}
