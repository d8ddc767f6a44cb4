package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"passbook/internal/money"
	"passbook/internal/query"
)

const (
	holdsPath    = "/accounts/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f/holds"
	transferPath = "/transfers/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"
)

func sampleHold(account, id uuid.UUID) query.Hold {
	eur, _ := money.LookupCurrency("EUR")
	return query.Hold{
		ID: id, AccountID: account, Currency: eur, Amount: 500, Status: "open", Reference: "hotel", PlacedAt: moment, ExpiresAt: moment, Position: 7,
	}
}

func (s *service) Hold(_ context.Context, account, id uuid.UUID, _ query.Wait) (query.Hold, int64, error) {
	if id == eventID {
		return query.Hold{}, 42, query.ErrHoldNotFound
	}
	return sampleHold(account, id), 42, nil
}

func (s *service) Holds(_ context.Context, account uuid.UUID, f query.HoldFilter, _ query.Wait) (query.HoldPage, int64, error) {
	if s.holdsAsked != nil {
		*s.holdsAsked = f
	}
	ended := sampleHold(account, eventID)
	ended.Status, ended.Captured, ended.EndedAt, ended.EndedPosition, ended.TransferID = "captured", 400, moment, 9, replayID
	return query.HoldPage{
		Holds: []query.Hold{sampleHold(account, replayID), ended}, Next: "abc", Total: &query.ListTotal{N: 10000, Exceeds: true},
	}, 42, nil
}

func (s *service) ExpiringHolds(_ context.Context, f query.ExpiringFilter, _ query.Wait) (query.HoldPage, int64, error) {
	if s.expiringAsked != nil {
		*s.expiringAsked = f
	}
	return query.HoldPage{Holds: []query.Hold{sampleHold(accountID, replayID)}, Next: "abc", Total: &query.ListTotal{N: 2}}, 42, nil
}

func (s *service) Search(ctx context.Context, f query.SearchFilter, w query.Wait) (query.MovementPage, int64, error) {
	if s.searched != nil {
		*s.searched = f
	}
	page, applied, err := s.Statement(ctx, accountID, query.StatementFilter{}, w)
	return query.MovementPage{Transactions: page.Transactions, Next: page.Next, Total: &query.ListTotal{}}, applied, err
}

func (s *service) Transfer(ctx context.Context, id uuid.UUID, w query.Wait) (query.Transfer, int64, error) {
	if id == eventID {
		return query.Transfer{}, 42, query.ErrTransferNotFound
	}
	page, applied, err := s.Statement(ctx, accountID, query.StatementFilter{}, w)
	return query.Transfer{ID: id, From: page.Transactions[0], To: page.Transactions[1]}, applied, err
}

func TestHolds(t *testing.T) {
	t.Parallel()
	var asked query.HoldFilter
	a := serve(t, &service{holdsAsked: &asked})
	got := a.send("GET", holdsPath+"?status=open&limit=7&cursor=xyz&count=true", "")
	body := got.json(t)
	if diff := cmp.Diff(query.HoldFilter{Status: "open", Limit: 7, Cursor: "xyz", Count: true}, asked); got.status != http.StatusOK || diff != "" {
		t.Errorf("%d %s", got.status, diff)
	}
	if body["total"] != 10000.0 || body["total_exceeds"] != true || body["next_cursor"] != "abc" || got.header.Get("Link") == "" {
		t.Errorf("%s", got.text)
	}
	one := a.send("GET", holdsPath+"/"+replayID.String(), "")
	want := `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"5.00","captured_amount":"0.00","currency":"EUR",` +
		`"ended_at":null,"ended_position":null,"expires_at":"2026-01-02T14:04:05.120000Z","hold_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41",` +
		`"metadata":{},"placed_at":"2026-01-02T14:04:05.120000Z","position":7,"reference":"hotel","status":"open","transfer_id":null}`
	if one.status != http.StatusOK || one.text != want || one.header.Get("Passbook-Position") != "42" {
		t.Errorf("%d %s", one.status, one.text)
	}
	if again := a.send("GET", holdsPath+"/"+replayID.String(), "", "If-None-Match", one.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("%d", again.status)
	}
	for path, code := range map[string]string{holdsPath + "/" + eventID.String(): "hold-not-found", "/transfers/" + eventID.String(): "transfer-not-found"} {
		got := a.send("GET", path, "")
		if c, _ := got.problem(t); got.status != http.StatusNotFound || c != code || got.header.Get("Passbook-Position") != "42" {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

func TestExpiringHolds(t *testing.T) {
	t.Parallel()
	var asked query.ExpiringFilter
	a := serve(t, &service{expiringAsked: &asked})
	got := a.send("GET", "/holds?status=open&expires_before=2026-01-02T01:00:00%2B01:00&limit=3&cursor=x&count=true", "")
	want := query.ExpiringFilter{Before: new(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)), Limit: 3, Cursor: "x", Count: true}
	if diff := cmp.Diff(want, asked, cmp.Comparer(time.Time.Equal)); got.status != http.StatusOK || diff != "" {
		t.Errorf("%d %s %s", got.status, got.text, diff)
	}
	page := got.json(t)
	if page["total"] != 2.0 || page["next_cursor"] != "abc" || len(page["holds"].([]any)) != 1 || got.header.Get("Passbook-Position") != "42" {
		t.Errorf("%s %v", got.text, got.header)
	}
	for query, parameter := range map[string]string{"status=captured": "status", "expires_before=soon": "expires_before", "limit=501": "limit", "currency=EUR": "currency"} {
		got := a.send("GET", "/holds?"+query, "")
		if _, errs := got.problem(t); got.status != http.StatusBadRequest || errs[parameter] == "" {
			t.Errorf("%s: %d %s", query, got.status, got.text)
		}
	}
}

func TestSearchAndTransfer(t *testing.T) {
	t.Parallel()
	var asked query.SearchFilter
	a := serve(t, &service{searched: &asked})
	if got := a.send("GET", transferPath, "").json(t); got["transfer_id"] != replayID.String() || got["from"] == nil || got["to"] == nil {
		t.Errorf("%v", got)
	}
	values := url.Values{
		"reference": {"rent & food"}, "transfer_id": {replayID.String()}, "metadata[invoice no]": {"17 %"}, "metadata[ä.b]": {""},
		"min_amount": {"0.5"}, "max_amount": {"1234567890123456789012"}, "currency": {"EUR"}, "kind": {"reversal_in"},
		"from": {"2026-01-01T00:00:00Z"}, "to": {"2026-01-02T00:00:00Z"}, "sort": {"recorded_at"}, "limit": {"3"}, "cursor": {"x"}, "count": {"true"},
	}
	got := a.send("GET", "/transactions?"+values.Encode(), "")
	from, to := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	want := query.SearchFilter{
		Reference: "rent & food", TransferID: replayID, Metadata: map[string]string{"invoice no": "17 %", "ä.b": ""}, MinAmount: "0.5",
		MaxAmount: "1234567890123456789012", Currency: "EUR", Kind: "reversal_in", From: &from, To: &to,
		Sort: "recorded_at", Limit: 3, Cursor: "x", Count: true,
	}
	if diff := cmp.Diff(want, asked); got.status != http.StatusOK || diff != "" {
		t.Errorf("%d %s", got.status, diff)
	}
	if total := got.json(t)["total"]; total != 0.0 {
		t.Errorf("total %v", total)
	}
}

func TestBadParametersOfSearch(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for query, parameter := range map[string]string{
		"min_amount=-1": "min_amount", "max_amount=1e3": "max_amount", "min_amount=": "min_amount", "max_amount=" + fmt.Sprintf("%041d", 1): "max_amount",
		"transfer_id=7": "transfer_id", "reference=": "reference", "reference=%00": "reference", "reference=%ff": "reference",
		"kind=gift": "kind", "currency=eur": "currency", "count=yes": "count", "from=now": "from", "sort=amount": "sort",
		"metadata=x": "metadata", "metadata[]=x": "metadata[]", "metadata[a][b]=x": "metadata[a][b]", "metadata[a=x": "metadata[a",
		"metadata[a]=x&metadata[a]=y": "metadata[a]", "metadata[a]=%ff": "metadata[a]", "reference[a]=x": "reference[a]",
	} {
		got := a.send("GET", "/transactions?"+query, "")
		if code, errs := got.problem(t); got.status != http.StatusBadRequest || code != "invalid-parameter" || errs[parameter] == "" {
			t.Errorf("%s: %d %s", query, got.status, got.text)
		}
	}
}
