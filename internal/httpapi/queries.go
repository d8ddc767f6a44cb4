package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/money"
	"passbook/internal/query"
)

// GetBalance serves GET /accounts/{account_id}/balance.
func (s *server) GetBalance(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.GetBalanceParams) {
	if p.At != "" || p.AtPosition != 0 {
		s.balanceAt(w, r, id, p)
		return
	}
	a, applied, err := s.queries.Account(r.Context(), id, wait(w, p.MinPosition, p.Prefer))
	if s.applied(w, r, applied, err) {
		s.respond(w, r, request.VersionTag(a.Version), func() any { return balanceOf(&a) })
	}
}

// GetAccount serves GET /accounts/{account_id}.
func (s *server) GetAccount(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.GetAccountParams) {
	a, applied, err := s.queries.Account(r.Context(), id, wait(w, p.MinPosition, p.Prefer))
	if s.applied(w, r, applied, err) {
		s.respond(w, r, request.VersionTag(a.Version), func() any { return new(accountOf(&a)) })
	}
}

// defaultLimit is the default size of a page.
const defaultLimit = 50

// ListAccounts serves GET /accounts.
func (s *server) ListAccounts(w http.ResponseWriter, r *http.Request, p genapi.ListAccountsParams) {
	filter := query.ListFilter{
		Owner: p.Owner, OwnerContains: p.OwnerContains, Count: p.Count, Currency: p.Currency, Status: string(p.Status),
		Sort: string(p.Sort), Limit: int(p.Limit), Cursor: p.Cursor,
	}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, applied, err := s.queries.Accounts(r.Context(), filter, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	body := genapi.AccountPage{Accounts: make([]genapi.Account, len(page.Accounts)), NextCursor: nullable(page.Next)}
	body.Total, body.TotalExceeds = total(page.Total)
	for i := range page.Accounts {
		body.Accounts[i] = accountOf(&page.Accounts[i])
		readingOf(r).account(page.Accounts[i].ID)
	}
	readingOf(r).completed()
	linkNext(w, r, page.Next)
	if !s.wantsCSV(w, r) {
		s.respondContent(w, r, &body)
		return
	}
	t := newTable(accountColumns)
	for i := range body.Accounts {
		t.account(&body.Accounts[i])
	}
	s.respondCSV(w, r, "accounts", t)
}

// total returns nil unless the elements were counted.
func total(t *query.ListTotal) (n *int64, exceeds bool) {
	if t == nil {
		return nil, false
	}
	return &t.N, t.Exceeds
}

// linkNext adds a link to the next page, if there is one.
func linkNext(w http.ResponseWriter, r *http.Request, cursor string) {
	if cursor == "" {
		return
	}
	next := r.URL.Query()
	next.Set("cursor", cursor)
	next.Del("min_position") // the first page has waited already
	w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
}

// wait returns how long a query may wait for a position, and confirms in the response what it read from Prefer.
func wait(w http.ResponseWriter, minPosition int64, prefer string) query.Wait {
	if prefer == "" {
		return query.Wait{MinPosition: minPosition, Timeout: request.DefaultWait}
	}
	timeout, given := request.PreferredWait(prefer)
	if given {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(timeout/time.Second)))
	}
	return query.Wait{MinPosition: minPosition, Timeout: timeout}
}

// applied sends the position that the read model had applied, and responds if the query failed. It reports whether there is a
// result to send.
func (s *server) applied(w http.ResponseWriter, r *http.Request, position int64, err error) bool {
	if err == nil || errors.Is(err, query.ErrNotFound) || errors.Is(err, query.ErrBehind) {
		w.Header()["Passbook-Position"] = []string{strconv.FormatInt(position, 10)}
	}
	if errors.Is(err, query.ErrBehind) {
		err = s.behind(r, position)
	}
	if err != nil {
		s.fail(w, r, err)
		return false
	}
	return true
}

// behind returns the problem of a read model that has applied a position, and not the one that was asked for. It tells where the log
// ends, if that can be read: what is beyond it may never come.
func (s *server) behind(r *http.Request, applied int64) error {
	var asked int64
	for _, name := range []string{"min_position", "at_position"} {
		n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64) // it has been validated
		asked = max(asked, n)
	}
	if asked <= applied {
		return query.ErrBehind
	}
	detail := "The read model has applied the log up to position " + strconv.FormatInt(applied, 10)
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	status, err := s.projections.Projection(ctx, "balances")
	switch head := strconv.FormatInt(status.Head, 10); {
	case err == nil && asked > status.Head:
		detail = "The log ends at position " + head + ", before " + strconv.FormatInt(asked, 10) + ". Either it is a typo, or the log has lost its latest " +
			"events in a failover or a restore; on a follower the position may also come later."
	case err == nil:
		detail += ", and the log ends at " + head
		fallthrough
	default:
		detail += "; retry shortly, or allow more time with Prefer: wait."
	}
	p := newProblem(kindBehind, detail)
	p.retryAfter = 1
	return p
}

// respond sends a result, or 304 if the caller has it already; the body is then not built.
func (s *server) respond(w http.ResponseWriter, r *http.Request, tag string, body func() any) {
	if s.notModified(w, r, tag) {
		return
	}
	text, err := encode(body())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", text)
}

// encode renders the result of a query. Equal results give equal bytes: keys of metadata are sorted.
func encode(body any) ([]byte, error) { return json.Marshal(body, json.Deterministic(true)) }

func (s *server) respondText(w http.ResponseWriter, r *http.Request, tag string, text []byte) {
	if !s.notModified(w, r, tag) {
		write(w, http.StatusOK, "application/json", text)
	}
}

// respondContent sends a result that has no version; its ETag is a hash of it.
func (s *server) respondContent(w http.ResponseWriter, r *http.Request, body any) {
	text, err := encode(body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.respondText(w, r, contentTag(text), text)
}

// notModified sets the ETag and evaluates the caller's conditions in the order of RFC 9110, section 13.2.2. It responds with 412
// if If-Match does not have the ETag, and with 304 if If-None-Match has it, and reports whether it has responded.
func (s *server) notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	w.Header()["Etag"] = []string{tag}
	if wanted := r.Header["If-Match"]; len(wanted) > 0 {
		tags, err := request.StrongTags(strings.Join(wanted, ", "))
		switch {
		case err != nil:
			s.fail(w, r, request.HeaderError("If-Match", err))
			return true
		case tags != nil && !slices.Contains(tags, tag):
			s.fail(w, r, newProblem(kindPrecondition, "The current ETag is none of those in If-Match; read it again without that header."))
			return true
		}
	}
	if have := r.Header.Get("If-None-Match"); have == "" || request.NoneMatch(have, tag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// contentTag is the ETag of a response that has no version: a hash of it.
func contentTag(text []byte) string {
	const size = 16 // bytes of SHA-256, far more than chance needs
	sum := sha256.Sum256(text)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:size]) + `"`
}

func balanceOf(a *query.Account) *genapi.Balance {
	return &genapi.Balance{
		AccountID: a.ID,
		Owner:     a.Owner,
		Erased:    erased(a.Owner),
		Currency:  a.Currency.Code(),
		Balance:   money.FormatMinor(a.Balance, a.Currency),
		Held:      money.FormatMinor(a.Held, a.Currency),
		Available: available(a.Balance, a.Overdraft, a.Held, a.Currency),
		Metadata:  a.Metadata,
		Status:    genapi.AccountStatus(a.Status),
		Version:   a.Version,
		Position:  a.Position,
		UpdatedAt: timeText(a.UpdatedAt),
	}
}

func accountOf(a *query.Account) genapi.Account {
	return genapi.Account{
		AccountID:      a.ID,
		Owner:          a.Owner,
		Erased:         erased(a.Owner),
		Currency:       a.Currency.Code(),
		Balance:        money.FormatMinor(a.Balance, a.Currency),
		Held:           money.FormatMinor(a.Held, a.Currency),
		Available:      available(a.Balance, a.Overdraft, a.Held, a.Currency),
		Metadata:       a.Metadata,
		OverdraftLimit: money.FormatMinor(a.Overdraft, a.Currency),
		Deposited:      a.Deposited,
		Withdrawn:      a.Withdrawn,
		Status:         genapi.AccountStatus(a.Status),
		Version:        a.Version,
		Position:       a.Position,
		OpenedAt:       timeText(a.OpenedAt),
		UpdatedAt:      timeText(a.UpdatedAt),
		ClosedAt:       nullable(timeText(a.ClosedAt)),
	}
}

// available returns the balance and the overdraft limit together, less what is held. If that exceeds 64 bits, it is the largest
// value they hold: no withdrawal can be larger.
func available(balance, overdraft, held int64, c money.Currency) string {
	if balance < 0 {
		return money.FormatMinor(balance+overdraft-held, c)
	}
	sum, ok := money.AddMinor(balance-held, overdraft)
	if !ok {
		sum = 1<<63 - 1
	}
	return money.FormatMinor(sum, c)
}
