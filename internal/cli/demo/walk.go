package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"passbook/client"
)

// walk is the state of the demonstration.
type walk struct {
	stage    *stage
	deposits int
	client   *client.Client
	show     *presenter

	ada, grace string // their accounts
	// first and second are receipts of deposits into Ada's account.
	first, second client.Receipt
	// parked is where Grace's account is parked.
	parked int64
}

func (w *walk) close() {
	if w.client != nil {
		w.client.Close()
	}
}

// part is one step of the walk.
type part struct {
	title, about string
	do           func(context.Context, *step, *presenter) error
}

func (w *walk) steps() []part {
	return []part{
		{"Start", "One binary. It makes a private PostgreSQL in an empty directory, brings the schema up to date, and serves.", w.start},
		{"Open two accounts", "A command returns once its event is durable. The response is a receipt: it has the event's position in the log.", w.openAccounts},
		{"Deposit", "Amounts are read from their literal text, never through a floating-point number.", w.deposit},
		{"Read your write", "Queries read a read model that follows the log. A query can wait for the position of a receipt, so that\nno caller has to sleep and hope.", w.readYourWrite},
		{"The same key twice", "A command with an Idempotency-Key may be sent again: it is applied once, and the response is the first one, byte for byte.", w.sameKey},
		{"What the rules refuse", "A refusal is a problem document (RFC 9457) with a stable code and a pointer to the field. Nothing is written.", w.refusal},
		{"Transfer", "Both accounts move in one append, or neither.", w.transfer},
		{"Time travel", "The log keeps everything, so a balance can be read as of any position or time.", w.timeTravel},
		{"An event that fails", "A row of a read model is changed by hand. The next event of that account cannot be applied: after a few tries the\naccount is parked. Its later events wait in order; every other account continues. Nothing is skipped.", w.fail},
		{"Verify names the row", "It recomputes every read model from the log, in SQL that shares nothing with the projector.", w.verifyDamaged},
		{"Repair, and retry", "The waiting events are applied in order. (The server also retries every 30 seconds.)", w.heal},
		{"Replay while reading", "A replay rebuilds the read model next to the one that queries read, then swaps the two in one transaction. No read sees\na half-built table, and none goes back in time.", w.replay},
		{"Kill the server", "kill -9 in the middle of a replay, a moment after a deposit was acknowledged. It loses neither.", w.crash},
		{"Verify", "The log's invariants, and every read model against the log.", w.verify},
	}
}

// reply is an HTTP response.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// text returns a member of a JSON response as text, or "".
func (r *reply) text(name string) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(r.body, &members) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(members[name], &text) == nil {
		return text
	}
	return string(members[name])
}

// send sends a request and shows it as a command line. Headers are "Name: value"; notes are names of response headers to
// show.
func (w *walk) send(ctx context.Context, s *step, method, path, body string, headers, notes []string) (*reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.stage.base()+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	var line strings.Builder
	line.WriteString("curl -s")
	if method != http.MethodGet && (method != http.MethodPost || body == "") {
		line.WriteString(" -X " + method)
	}
	line.WriteString(" '" + w.stage.base() + path + "'")
	if body != "" {
		headers = append([]string{"Content-Type: application/json"}, headers...)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
		line.WriteString(" -H '" + h + "'")
	}
	if body != "" {
		line.WriteString(" -d '" + body + "'")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	c := call{Command: line.String(), Status: response.StatusCode, Answer: bytes.TrimSpace(text)}
	if !json.Valid(c.Answer) {
		c.Answer = quoted(string(text))
	}
	for _, name := range notes {
		if value := response.Header.Get(name); value != "" {
			c.Notes = append(c.Notes, name+": "+value)
		}
	}
	w.did(s, &c)
	return &reply{status: response.StatusCode, header: response.Header, body: text}, nil
}

func quoted(text string) json.RawMessage {
	encoded, _ := json.Marshal(text) // a string always encodes
	return encoded
}

// did records and shows a call.
func (w *walk) did(s *step, c *call) {
	s.Calls = append(s.Calls, *c)
	w.show.called(c)
}

func (w *walk) get(ctx context.Context, s *step, path string) (*reply, error) {
	return w.send(ctx, s, http.MethodGet, path, "", nil, nil)
}

func (w *walk) post(ctx context.Context, s *step, path, body string, headers ...string) (*reply, error) {
	return w.send(ctx, s, http.MethodPost, path, body, headers, nil)
}

// balance reads a balance at a position and checks its value.
func (w *walk) balance(ctx context.Context, s *step, owner, id string, position int64, want string) error {
	got, err := w.get(ctx, s, fmt.Sprintf("/accounts/%s/balance?min_position=%d", id, position))
	if err != nil {
		return err
	}
	s.expect(owner+" has "+want, got.text("balance") == want, string(got.body))
	return nil
}

// write sends a command, checks that it was applied, and returns its receipt.
func (w *walk) write(ctx context.Context, s *step, path, body string, headers ...string) (client.Receipt, error) {
	var receipt client.Receipt
	got, err := w.post(ctx, s, path, body, headers...)
	if err != nil {
		return receipt, err
	}
	s.expect("it is recorded", got.status == http.StatusCreated, fmt.Sprintf("%d %s", got.status, got.body))
	if got.status != http.StatusCreated {
		return receipt, nil
	}
	if err := json.Unmarshal(got.body, &receipt); err != nil {
		return receipt, fmt.Errorf("receipt: %w", err)
	}
	return receipt, nil
}
