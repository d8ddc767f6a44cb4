package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	table = "access_records"

	selectSQL = `select at, run, number, kind, coalesce(caller, ''), caller_name, method, route, accounts, status, request_id, address, position, detail
from access_records where true`

	expireSQL = `select expire_access($1)`
)

var columns = []string{
	"at", "run", "number", "kind", "caller", "caller_name", "method", "route", "accounts", "status", "request_id", "address", "position", "detail",
}

// uniqueViolation is the SQLSTATE of a batch that is there already.
const uniqueViolation = "23505"

// write writes a batch whose first record has the number, all of it or nothing. Written a second time, it does nothing.
func write(ctx context.Context, pool *pgxpool.Pool, run uuid.UUID, number int64, batch []Record) error {
	_, err := pool.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
		r := &batch[i]
		var caller *string
		if !r.ofRun() {
			caller = new(storable(r.Caller))
		}
		var accounts []uuid.UUID // null
		if !r.AnyAccount {
			accounts = append(make([]uuid.UUID, 0, len(r.Accounts)), r.Accounts...)
		}
		return []any{
			r.At, run, number + int64(i), string(r.Kind), caller, storable(r.CallerName), storable(r.Method), r.Route, accounts, r.Status,
			r.RequestID, r.Address, r.Position, r.Detail,
		}, nil
	}))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == uniqueViolation {
		return nil
	}
	if err != nil {
		return fmt.Errorf("access: write records: %w", err)
	}
	return nil
}

// isRejected reports whether PostgreSQL would reject the same records again: for their data, or a constraint.
func isRejected(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23"))
}

// storable removes what PostgreSQL does not take as text: one caller's name must not keep the records of others waiting.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// Filter selects a page of records, newest first. Zero values mean any. Records about a run, and those of any account, are always
// selected, since they may be about what is looked for.
type Filter struct {
	Account uuid.UUID
	// Caller is the id of a caller, or the name of a key.
	Caller string
	// From is included, To is not.
	From, To *time.Time
	// Limit is the size of the page, at least 1.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
}

// Page is one page of records.
type Page struct {
	Records []Stored
	// Next is the cursor of the next page, empty on the last.
	Next string
}

// Stored is a record of the table.
type Stored struct {
	Record
	// Run is the run of an instance that wrote the record, and Number counts its records from 1.
	Run    uuid.UUID
	Number int64
}

// ErrBadCursor says that a cursor was not made by List.
var ErrBadCursor = errors.New("access: the cursor is not valid")

// cursor is the place of a record in the order of lists.
type cursor struct {
	At     time.Time `json:"t"`
	Run    uuid.UUID `json:"r"`
	Number int64     `json:"n"`
}

func (c *cursor) String() string {
	text, _ := json.Marshal(c) // a time, an id and a number
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(text string) (*cursor, error) {
	if text == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	c := new(cursor)
	if err != nil || json.Unmarshal(raw, c) != nil || c.At.IsZero() {
		return nil, ErrBadCursor
	}
	return c, nil
}

// sql returns the query of a page after a place. It has only the conditions that are set, so that each can use its index.
func (f *Filter) sql(after *cursor) (sql string, args []any) {
	sql = selectSQL
	where := func(condition string, values ...any) {
		numbers := make([]any, len(values))
		for i := range values {
			numbers[i] = len(args) + i + 1
		}
		sql += "\n  and " + fmt.Sprintf(condition, numbers...)
		args = append(args, values...)
	}
	if f.Account != uuid.Nil {
		where("(accounts @> array[$%d::uuid] or accounts is null)", f.Account)
	}
	if f.Caller != "" {
		where("($%[1]d in (caller, caller_name) or caller is null)", storable(f.Caller))
	}
	if f.From != nil {
		where("at >= $%d", *f.From)
	}
	if f.To != nil {
		where("at < $%d", *f.To)
	}
	if after != nil {
		where("(at, run, number) < ($%d, $%d, $%d)", after.At, after.Run, after.Number)
	}
	return sql + fmt.Sprintf("\norder by at desc, run desc, number desc limit %d", f.Limit+1), args
}

// Store reads the records and deletes old ones.
type Store struct{ pool *pgxpool.Pool }

// NewStore returns the records in a database, which must be the primary.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool} }

// List returns a page of records. It returns ErrBadCursor.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	after, err := parseCursor(f.Cursor)
	if err != nil {
		return Page{}, err
	}
	sql, args := f.sql(after)
	rows, _ := s.pool.Query(ctx, sql, args...) // CollectRows returns the error
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Stored, err error) {
		var address *netip.Addr
		err = row.Scan(&r.At, &r.Run, &r.Number, &r.Kind, &r.Caller, &r.CallerName, &r.Method, &r.Route, &r.Accounts, &r.Status, &r.RequestID,
			&address, &r.Position, &r.Detail)
		if r.AnyAccount = r.Accounts == nil; address != nil {
			r.Address = *address
		}
		return r, err
	})
	if err != nil {
		return Page{}, fmt.Errorf("access: list records: %w", err)
	}
	page := Page{Records: records}
	if len(records) > f.Limit {
		page.Records = records[:f.Limit]
		last := &page.Records[f.Limit-1]
		page.Next = (&cursor{last.At, last.Run, last.Number}).String()
	}
	return page, nil
}

// Expire deletes the records that are older than keep, but never those of the last day, and returns how many. It does nothing while
// another instance does it.
func (s *Store) Expire(ctx context.Context, keep time.Duration) (deleted int64, err error) {
	for {
		var n int64
		if err := s.pool.QueryRow(ctx, expireSQL, keep).Scan(&n); err != nil {
			return deleted, fmt.Errorf("access: delete old records: %w", err)
		}
		if deleted += n; n == 0 {
			return deleted, nil
		}
	}
}

const (
	// expireEvery is how often old records are deleted.
	expireEvery = 10 * time.Minute
	// firstExpiry is when that begins after the start.
	firstExpiry = time.Minute
)

// Retention deletes old records until ctx ends, also when none are written any more.
type Retention struct {
	Store  *Store
	Keep   time.Duration
	Logger *slog.Logger
}

// Run works until ctx ends, and returns nil.
func (r *Retention) Run(ctx context.Context) error {
	for wait := firstExpiry; ; wait = expireEvery {
		if pause(ctx, wait); ctx.Err() != nil {
			return nil //nolint:nilerr // stopped
		}
		deleted, err := r.Store.Expire(ctx, r.Keep)
		if err != nil && ctx.Err() == nil {
			r.Logger.WarnContext(ctx, "deleting old records of the access audit failed; retrying in ten minutes", "error", err)
		}
		if deleted > 0 {
			r.Logger.DebugContext(ctx, "deleted old records of the access audit", "records", deleted)
		}
	}
}
