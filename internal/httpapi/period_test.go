package httpapi_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
	"passbook/internal/query"
)

// bookkeeper returns a read side with an account of so many movements of 0.01 EUR. Unless failsAfter is zero, it fails to read
// beyond that position.
func bookkeeper(movements, failsAfter int64) *service {
	eur, _ := money.LookupCurrency("EUR")
	end := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	return &service{
		period: func(from, to *time.Time, _ query.Wait) (query.Period, int64, error) {
			p := query.Period{Owner: "Ada", Currency: eur, To: end, ToPosition: movements + 1, Closing: movements}
			if from != nil {
				p.From = from
			}
			if to != nil {
				p.To = *to
			}
			return p, movements + 1, nil
		},
		moved: func(p *query.Period, after int64, limit int) ([]query.Transaction, error) {
			var page []query.Transaction
			for position := max(after, 1) + 1; position <= p.ToPosition && len(page) < limit; position++ {
				if failsAfter > 0 && position > failsAfter {
					return nil, errors.New("the database has gone")
				}
				page = append(page, query.Transaction{
					AccountID: p.AccountID, Currency: eur, Kind: "deposit", Amount: 1, Balance: position - 1, Position: position, Version: position,
					Reference: "=1+1", RecordedAt: end.Add(-time.Hour),
				})
			}
			return page, nil
		},
	}
}

// TestStatementIsComplete reads statements of no, some and many movements, as JSON, which it checks against the document, and as
// CSV.
func TestStatementIsComplete(t *testing.T) {
	t.Parallel()
	path := "/accounts/" + accountID.String() + "/statement"
	for _, movements := range []int64{0, 1, 499, 500, 501, 1300} {
		a := serve(t, bookkeeper(movements, 0))
		got := a.send("GET", path, "")
		var body struct {
			Closing      string `json:"closing_balance"`
			Transactions []struct{ Position int64 }
		}
		if err := json.Unmarshal([]byte(got.text), &body); err != nil || got.status != http.StatusOK || int64(len(body.Transactions)) != movements {
			t.Fatalf("of %d movements: %d, %d of them, %v", movements, got.status, len(body.Transactions), err)
		}
		for i, m := range body.Transactions {
			if m.Position != int64(i)+2 {
				t.Fatalf("movement %d is at position %d", i, m.Position)
			}
		}
		table := a.send("GET", path, "", "Accept", "text/csv")
		rows, err := csv.NewReader(strings.NewReader(table.text)).ReadAll()
		if err != nil || int64(len(rows)) != movements+3 || rows[1][4] != "opening_balance" || rows[len(rows)-1][4] != "closing_balance" {
			t.Fatalf("CSV of %d movements: %d rows, %v", movements, len(rows), err)
		}
		if movements > 0 && rows[2][13] != "'=1+1" {
			t.Errorf("the reference in CSV is %q", rows[2][13])
		}
		if table.header.Get("Vary") != "Accept" || table.header.Get("Etag") == got.header.Get("Etag") || !strings.HasPrefix(table.header.Get("Content-Type"), "text/csv") {
			t.Errorf("CSV and JSON: %v, %v", table.header, got.header)
		}
		if again := a.send("GET", path, "", "If-None-Match", got.header.Get("Etag")); again.status != http.StatusNotModified {
			t.Errorf("asked again: %d", again.status)
		}
		early := a.send("GET", path+"?to=2026-01-31T00:00:00Z", "", "Accept", "text/csv")
		if early.header.Get("Etag") == table.header.Get("Etag") {
			t.Error("two periods have one ETag")
		}
	}
}

// TestBoundsInOrder expects a list or a period whose second bound is below its first to be refused.
func TestBoundsInOrder(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	of := "/accounts/" + accountID.String()
	for _, path := range []string{of + "/statement", of + "/transactions", "/transactions"} {
		for query, parameter := range map[string]string{
			"from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z":         "to",
			"from=2026-01-02T00:00:00-01:00&to=2026-01-02T00:59:59Z":    "to",
			"from=2026-01-01T00:00:00.0000002Z&to=2026-01-01T00:00:00Z": "to",
			"from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z":         "",
			"from=2026-01-02T00:00:00%2B01:00&to=2026-01-01T23:00:00Z":  "",
		} {
			checkBounds(t, a.send("GET", path+"?"+query, ""), path+"?"+query, parameter)
		}
	}
	for query, parameter := range map[string]string{
		"min_amount=2&max_amount=1.99": "max_amount",
		"min_amount=10&max_amount=9":   "max_amount",
		"min_amount=12345678901234567890123456789.1&max_amount=12345678901234567890123456789": "max_amount",
		"min_amount=2&max_amount=2.00": "",
		"min_amount=9&max_amount=10":   "",
		"min_amount=x&max_amount=1":    "min_amount",
	} {
		checkBounds(t, a.send("GET", "/transactions?"+query, ""), query, parameter)
	}
}

// checkBounds expects 400 with an error for the parameter, or 200 if that is "".
func checkBounds(t *testing.T, got *answer, request, parameter string) {
	t.Helper()
	if parameter == "" {
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", request, got.status, got.text)
		}
		return
	}
	if code, errs := got.problem(t); got.status != http.StatusBadRequest || code != "invalid-parameter" || len(errs) != 1 || errs[parameter] == "" {
		t.Errorf("%s: %d %s", request, got.status, got.text)
	}
}

// TestStatementFromYearOne expects the first moment of the year 1, which is Go's zero time, to be a time like any other.
func TestStatementFromYearOne(t *testing.T) {
	t.Parallel()
	a := serve(t, bookkeeper(1, 0))
	path := "/accounts/" + accountID.String() + "/statement"
	const first = "0001-01-01T00:00:00.000000Z"
	for query, want := range map[string]any{"": nil, "?from=0001-01-01T00:00:00Z": first} {
		if got := a.send("GET", path+query, "").json(t)["from"]; got != want {
			t.Errorf("%s: from is %v, want %v", query, got, want)
		}
		table := a.send("GET", path+query, "", "Accept", "text/csv")
		if strings.Contains(table.text, first) != (want != nil) {
			t.Errorf("%s: %s", query, table.text)
		}
	}
}

// TestTruncatedStatement expects a statement that cannot be read to its end not to look complete.
func TestTruncatedStatement(t *testing.T) {
	t.Parallel()
	a := serve(t, bookkeeper(2000, 700))
	for _, accept := range []string{"application/json", "text/csv"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/accounts/"+uuid.NewString()+"/statement", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		response, err := plainClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil {
			t.Errorf("%s: %d bytes look like a complete response", accept, len(text))
		}
	}
	if got := a.send("GET", "/accounts/"+accountID.String()+"/statement?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", ""); got.status != http.StatusBadRequest {
		t.Errorf("a period that ends before it begins: %d %s", got.status, got.text)
	}
}
