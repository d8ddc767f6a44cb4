package httpapi

import (
	"bytes"
	"encoding/csv"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"passbook/internal/httpapi/genapi"
)

// mediaCSV is CSV by RFC 4180; mediaCSVHeader adds that the first line is a header (section 3).
const (
	mediaCSV       = "text/csv"
	mediaCSVHeader = "text/csv; charset=utf-8; header=present"
)

// table builds a CSV text.
type table struct {
	buf bytes.Buffer
	csv *csv.Writer
}

func newTable(columns []string) *table {
	t := new(table)
	t.csv = csv.NewWriter(&t.buf)
	t.csv.UseCRLF = true
	t.row(columns...)
	return t
}

// row appends a record. Writing to memory does not fail.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = harmless(cell)
	}
	_ = t.csv.Write(cells)
}

// take returns what was written since the last call.
func (t *table) take() []byte {
	t.csv.Flush()
	text := bytes.Clone(t.buf.Bytes())
	t.buf.Reset()
	return text
}

// oneBreak turns every line break of a text into LF, which package csv writes as CR LF; it would drop a lone CR.
var oneBreak = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// formula matches what makes a spreadsheet read a cell as a formula: its first visible character, also after a separator other
// than the comma or a line break, which would begin another cell.
var formula = regexp.MustCompile(`(^|[;|\t\n])([\s\p{Z}\p{Cc}\p{Cf}]*)([=+\-@＝＋－＠])`)

// harmless returns a cell that no spreadsheet runs as a formula: unless it is a number, it gets an apostrophe before the
// character that would make it one (https://owasp.org/www-community/attacks/CSV_Injection).
func harmless(text string) string {
	text = oneBreak.Replace(text)
	if isDecimal(text) {
		return text
	}
	return formula.ReplaceAllString(text, "$1$2'$3")
}

// isDecimal reports whether a text consists of digits, with an optional minus before them and an optional point between them.
func isDecimal(text string) bool {
	whole, fraction, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(whole) && (!point || digits(fraction))
}

var accountColumns = []string{
	"account_id", "owner", "currency", "balance", "held", "available", "overdraft_limit", "deposited", "withdrawn", "status", "version",
	"position", "opened_at", "updated_at", "closed_at", "metadata",
}

func (t *table) account(a *genapi.Account) {
	t.row(a.AccountID.String(), a.Owner, a.Currency, a.Balance, a.Held, a.Available, a.OverdraftLimit, a.Deposited, a.Withdrawn,
		string(a.Status), strconv.FormatInt(a.Version, 10), strconv.FormatInt(a.Position, 10), a.OpenedAt, a.UpdatedAt, cell(a.ClosedAt),
		labels(a.Metadata))
}

var movementColumns = []string{
	"account_id", "position", "version", "recorded_at", "kind", "amount", "balance", "currency", "counterparty_account_id", "transfer_id",
	"hold_id", "reverses", "reversed_amount", "reference", "metadata",
}

func (t *table) movement(m *genapi.Transaction) {
	t.row(m.AccountID.String(), strconv.FormatInt(m.Position, 10), strconv.FormatInt(m.Version, 10), m.RecordedAt, string(m.Kind), m.Amount,
		m.Balance, m.Currency, cell(m.CounterpartyAccountID), cell(m.TransferID), cell(m.HoldID), cell(m.Reverses), m.ReversedAmount,
		cell(m.Reference), labels(m.Metadata))
}

// cell returns a value as in JSON, without quotes; "" for null.
func cell(v any) string {
	text, err := json.Marshal(v)
	if err != nil || string(text) == "null" {
		return ""
	}
	var plain string
	if json.Unmarshal(text, &plain) == nil {
		return plain
	}
	return string(text)
}

// labels returns metadata as a JSON object; "" if there is none.
func labels(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, err := encode(m)
	if err != nil {
		return ""
	}
	return string(text)
}

// wantsCSV reports whether the response is to be CSV.
func (s *server) wantsCSV(w http.ResponseWriter, r *http.Request) bool {
	return s.negotiate(w, r) == mediaCSV
}

// respondCSV sends a table; its ETag is a hash of the text.
func (s *server) respondCSV(w http.ResponseWriter, r *http.Request, name string, t *table) {
	text := t.take()
	if s.notModified(w, r, contentTag(text)) {
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	write(w, http.StatusOK, mediaCSVHeader, text)
}
