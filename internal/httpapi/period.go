package httpapi

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
	"passbook/internal/query"
)

// statementPiece is how many movements of a statement are read and sent at a time, so that a statement of any length fits in
// memory.
const statementPiece = 500

// GetStatement serves GET /accounts/{account_id}/statement.
func (s *server) GetStatement(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.GetStatementParams) {
	from, to := timeOf(p.From), timeOf(p.To)
	asCSV := s.wantsCSV(w, r)
	period, applied, err := s.statements.Period(r.Context(), id, from, to, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	movements, err := s.statements.PeriodMovements(r.Context(), &period, 0, statementPiece)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	text, err := newStatementText(&period, asCSV)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	// The beginning and the end identify the period, whose content never changes.
	if s.notModified(w, r, contentTag(slices.Concat(text.beginning, text.ending))) {
		return
	}
	w.Header().Set("Content-Type", text.mediaType)
	if asCSV {
		w.Header().Set("Content-Disposition", `attachment; filename="statement.csv"`)
	}
	if r.Method == http.MethodHead {
		return
	}
	s.streamStatement(w, r, &period, text, movements)
}

// streamStatement sends the beginning, the movements, which it reads piece by piece after the first, and the end. It omits the
// end on a failure, so that a truncated response does not look complete.
func (s *server) streamStatement(w http.ResponseWriter, r *http.Request, p *query.Period, text *statementText, movements []query.Transaction) {
	out := newStreamWriter(w, s.streams.PieceTimeout)
	defer out.end()
	piece := text.beginning
	for opened := false; ; {
		for i := range movements {
			var err error
			if piece, err = text.append(piece, &movements[i]); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if len(movements) < statementPiece {
			break
		}
		if !opened {
			readingOf(r).opened()
			opened = true
		}
		if err := out.send(piece); err != nil {
			panic(http.ErrAbortHandler)
		}
		var err error
		movements, err = s.statements.PeriodMovements(r.Context(), p, movements[len(movements)-1].Position, statementPiece)
		if err != nil {
			s.log.WarnContext(r.Context(), "reading a statement failed; the response is cut off", "account_id", p.AccountID, "error", err)
			panic(http.ErrAbortHandler)
		}
		piece = nil
	}
	if err := out.send(append(piece, text.ending...)); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// statementText renders a statement as JSON or CSV. beginning comes before the movements, ending after them.
type statementText struct {
	mediaType         string
	beginning, ending []byte
	table             *table // for CSV
	begun             bool   // for JSON: the next movement is not the first
}

func newStatementText(p *query.Period, asCSV bool) (*statementText, error) {
	var from string
	if p.From != nil {
		from = p.From.UTC().Format(timeFormat)
	}
	opening, closing := money.FormatMinor(p.Opening, p.Currency), money.FormatMinor(p.Closing, p.Currency)
	if asCSV {
		t := newTable(movementColumns)
		balance := func(position int64, at, kind, balance string) []byte {
			cells := make([]string, len(movementColumns))
			set := func(column, text string) { cells[slices.Index(movementColumns, column)] = text }
			set("account_id", p.AccountID.String())
			set("position", strconv.FormatInt(position, 10))
			set("recorded_at", at)
			set("kind", kind)
			set("balance", balance)
			set("currency", p.Currency.Code())
			t.row(cells...)
			return t.take()
		}
		beginning := balance(p.FromPosition, from, "opening_balance", opening)
		return &statementText{
			mediaType: mediaCSVHeader, table: t,
			beginning: beginning, ending: balance(p.ToPosition, timeText(p.To), "closing_balance", closing),
		}, nil
	}
	text, err := encode(&genapi.AccountStatement{
		AccountID: p.AccountID, Owner: p.Owner, Erased: erased(p.Owner), Currency: p.Currency.Code(),
		From: nullable(from), To: timeText(p.To), FromPosition: p.FromPosition, ToPosition: p.ToPosition,
		OpeningBalance: opening, ClosingBalance: closing, Transactions: []genapi.Transaction{},
	})
	if err != nil {
		return nil, err
	}
	// The movements are the last member.
	const ending = "]}"
	return &statementText{mediaType: "application/json", beginning: bytes.TrimSuffix(text, []byte(ending)), ending: []byte(ending)}, nil
}

// append appends a movement.
func (t *statementText) append(piece []byte, m *query.Transaction) ([]byte, error) {
	body := transactionOf(m)
	if t.table != nil {
		t.table.movement(&body)
		return append(piece, t.table.take()...), nil
	}
	text, err := encode(&body)
	if t.begun {
		piece = append(piece, ',')
	}
	t.begun = true
	return append(piece, text...), err
}
