package httpapi

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"passbook/internal/access"
	"passbook/internal/account"
	"passbook/internal/auth"
	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
)

// Recorder takes the records of the access audit; an *access.Recorder does.
type Recorder interface {
	// Begin reports whether a request is recorded. access.ErrFull says that it should be and cannot.
	Begin() (recorded bool, err error)
	Add(r access.Record)
}

// AccessRecords returns the records of the access audit.
type AccessRecords interface {
	List(ctx context.Context, f access.Filter) (access.Page, error)
}

// recordedScopes are those of operations that return something about accounts, or who read it.
const recordedScopes = auth.AccountsRead | auth.EventsRead | auth.AuditRead

var (
	// withoutAccounts are the operations of these scopes that return nothing about accounts.
	withoutAccounts = map[string]bool{"/schemas/{event_type}/{schema_version}": true, "/log/checkpoint": true, "/log/proofs/consistency": true}
	// withAccounts are the reads of other scopes that do.
	withAccounts = map[string]bool{"/projections/{projection_id}/failures": true}
)

// reading is what a recorded request has read so far. A request that is not recorded has none: the methods of nil do nothing.
type reading struct {
	recorder Recorder
	w        *exchange
	r        *http.Request
	accounts []uuid.UUID
	// any says that the response may be about any account, and complete that it is about no other than those noted.
	any, complete bool
	// command says that the request is a command, which has read something only if read is set.
	command, read bool
	// position is the last one that a stream has sent; otherwise the header of the response has it.
	position int64
}

// recordAccess records the requests that read, for the access audit. It runs after authorize: a request that is refused there has read
// nothing.
func (s *server) recordAccess(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := s.operation(r)
		route := routeOf(r)
		if op == nil || withoutAccounts[route] || op.Scope&(recordedScopes|auth.AccountsWrite) == 0 && !withAccounts[route] {
			next.ServeHTTP(w, r)
			return
		}
		x := exchangeOf(r.Context())
		reads := op.Scope&recordedScopes != 0 || withAccounts[route]
		recorded, err := s.recorder.Begin()
		if err != nil && (reads || r.URL.Query().Get("dry_run") == "true") {
			p := newProblem(kindAuditUnavailable, "Every read is recorded, and the record of this one could not be stored. Nothing was read; retry shortly.")
			p.retryAfter = 1
			s.fail(w, r, p)
			return
		}
		if recorded {
			x.reading = &reading{recorder: s.recorder, w: x, r: r, command: !reads}
			if id, err := uuid.Parse(chi.URLParam(r, "account_id")); err == nil {
				x.reading.accounts = []uuid.UUID{id}
			}
			defer x.reading.end()
		}
		next.ServeHTTP(w, r)
	})
}

// readingOf returns what a request has read, nil if it is not recorded.
func readingOf(r *http.Request) *reading { return exchangeOf(r.Context()).reading }

// maxRecorded is how many accounts one record has. A response about more of them gets several.
const maxRecorded = 1000

// account notes that the response is about an account.
func (g *reading) account(id uuid.UUID) {
	if g == nil || id == uuid.Nil || len(g.accounts) > 0 && g.accounts[len(g.accounts)-1] == id {
		return
	}
	if len(g.accounts) >= maxRecorded {
		g.add(access.Read)
		g.accounts = g.accounts[:0]
	}
	g.accounts = append(g.accounts, id)
}

// completed notes that all accounts of the response have been noted, even if there are none, as in an empty page.
func (g *reading) completed() {
	if g != nil {
		g.complete = true
	}
}

// decided notes that a command was decided and not applied: a dry run, or a refusal, which may tell a balance.
func (g *reading) decided(of *command.Request, events []command.Recorded) {
	if g == nil {
		return
	}
	g.read = true
	g.account(of.AccountID)
	switch c := of.Command.(type) {
	case account.Transfer:
		g.account(c.To)
	case account.CaptureHold:
		g.account(c.To)
	}
	for i := range events {
		g.account(events[i].AccountID)
	}
}

// opened records a response that may take long, before it begins.
func (g *reading) opened() {
	if g != nil {
		g.add(access.Opened)
	}
}

// end records what was read, when the response is complete or cut off. A successful response that noted no account may be about any.
func (g *reading) end() {
	if len(g.accounts) == 0 && !g.complete && g.w.status < http.StatusBadRequest {
		g.any = true
	}
	if g.w.status < http.StatusInternalServerError && (!g.command || g.read) {
		g.add(access.Read)
	}
}

func (g *reading) add(kind access.Kind) {
	accounts := slices.Clone(g.accounts)
	slices.SortFunc(accounts, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	record := access.Record{
		At: time.Now(), Kind: kind, Method: g.r.Method, Route: routeOf(g.r), Accounts: slices.Compact(accounts), AnyAccount: g.any, Status: g.w.status,
		RequestID: g.w.requestID, Position: g.position,
	}
	if record.Status == 0 {
		record.Status = http.StatusOK
	}
	if header := g.w.Header()["Passbook-Position"]; len(header) > 0 && g.position == 0 {
		record.Position, _ = strconv.ParseInt(header[0], 10, 64)
	}
	if g.w.caller != nil {
		record.Caller = g.w.caller.ID
		record.CallerName = strings.TrimPrefix(strings.TrimPrefix(g.w.caller.Actor, g.w.caller.ID), " ")
	}
	if from, err := netip.ParseAddrPort(g.r.RemoteAddr); err == nil {
		record.Address = from.Addr().Unmap().WithZone("")
	}
	g.recorder.Add(record)
}

// ListAccess serves GET /access.
func (s *server) ListAccess(w http.ResponseWriter, r *http.Request, p genapi.ListAccessParams) {
	filter := access.Filter{
		Account: p.AccountID, Caller: p.Caller, From: timeOf(p.From), To: timeOf(p.To), Limit: int(p.Limit), Cursor: p.Cursor,
	}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, err := s.accessRecords.List(r.Context(), filter)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	readingOf(r).account(p.AccountID)
	linkNext(w, r, page.Next)
	body := genapi.AccessPage{Records: make([]genapi.AccessRecord, len(page.Records)), NextCursor: nullable(page.Next)}
	for i := range page.Records {
		body.Records[i] = accessRecordOf(&page.Records[i])
	}
	s.reply(w, r, http.StatusOK, &body, nil)
}

func accessRecordOf(a *access.Stored) genapi.AccessRecord {
	record := genapi.AccessRecord{
		At: timeText(a.At), Run: a.Run, Number: a.Number, Kind: genapi.AccessRecordKind(a.Kind), Caller: a.Caller, CallerName: a.CallerName,
		Method: a.Method, Route: a.Route, Accounts: a.Accounts, AnyAccount: a.AnyAccount, Status: a.Status, RequestID: a.RequestID,
		Position: a.Position, Detail: a.Detail,
	}
	if a.Accounts == nil {
		record.Accounts = []uuid.UUID{}
	}
	if a.Address.IsValid() {
		record.Address = a.Address.String()
	}
	return record
}
