// Package load is the clients: they send commands with idempotency keys, retry until each is settled, read what was
// written, and record everything for the oracle.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"passbook/test/faults/internal/oracle"
)

// attemptTimeout bounds one attempt, so that a client gives up on a frozen instance.
const attemptTimeout = 4 * time.Second

// Config configures the traffic. Zero means none of a kind.
type Config struct {
	// Accounts is how many accounts the clients share, at least 4; Clients is how many send commands, Readers how many read.
	Accounts, Clients, Readers int
	// Pause is the average time that a client waits between two commands.
	Pause time.Duration
	// Resend is the share of acknowledged commands that are sent again; Bulk the share that is sent in bulk.
	Resend, Bulk float64
}

type account struct {
	id, currency string
	limit        int64
}

// ack is the last acknowledged command on an account.
type ack struct {
	position, version int64
	sent              time.Time
}

// Load is the clients of one world.
type Load struct {
	cfg      Config
	seed     uint64
	base     func() string
	report   func(oracle.Violation)
	http     *http.Client
	accounts []account

	running  sync.WaitGroup
	stop     context.CancelFunc // stops new commands
	abandon  context.CancelFunc // stops attempts too
	attempts context.Context
	answered atomic.Int64

	mu    sync.Mutex
	done  []oracle.Command
	steps []oracle.Step
	acks  map[string]ack
	// holds and movements are some that were acknowledged, for captures, releases and reversals.
	holds     []held
	movements []movement
}

// New returns the clients. base picks an instance for each attempt; report is called with each response that breaks a rule.
func New(cfg Config, seed uint64, base func() string, report func(oracle.Violation)) *Load {
	l := &Load{
		cfg: cfg, seed: seed, base: base, report: report, acks: make(map[string]ack),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}},
	}
	l.attempts, l.abandon = context.WithCancel(context.Background())
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range cfg.Accounts {
		l.accounts = append(l.accounts, account{newID(rng), []string{"EUR", "USD"}[i%2], int64(i%3) * 1000})
	}
	return l
}

// Open opens the accounts, each with some money.
func (l *Load) Open(ctx context.Context) error {
	for i, a := range l.accounts {
		for _, c := range []*command{
			{kind: "open", key: fmt.Sprintf("open-%d", i), account: a.id, currency: a.currency, limit: a.limit},
			{kind: "deposit", key: fmt.Sprintf("first-%d", i), account: a.id, amount: 20000},
		} {
			l.until(ctx, l.base, []*command{c}, l.attempt)
			l.record(0, c)
			if c.fate != oracle.Applied {
				return fmt.Errorf("%s: %v %s", c.key, c.fate, c.code)
			}
		}
	}
	return nil
}

// Unread is the one account that gets commands but is not read: it may be parked, and reads of a parked account return its
// state before the event at which it is parked.
func (l *Load) Unread() string { return l.accounts[len(l.accounts)-1].id }

// Start starts the clients.
func (l *Load) Start() {
	issue, stop := context.WithCancel(l.attempts)
	l.stop = stop
	for i := range l.cfg.Clients {
		l.running.Go(func() { l.client(issue, i+1) })
	}
	for i := range l.cfg.Readers {
		l.running.Go(func() { l.reader(issue, 1000+i) })
	}
}

// Finish ends the clients: those with an unsettled command retry until ctx ends.
func (l *Load) Finish(ctx context.Context) {
	l.stop()
	ended := make(chan struct{})
	go func() { l.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		l.abandon()
		<-ended
	}
}

// Abandon ends the clients at once.
func (l *Load) Abandon() {
	l.abandon()
	l.running.Wait()
	l.http.CloseIdleConnections()
}

// Acknowledged returns how many commands are settled, refused ones included.
func (l *Load) Acknowledged() int64 { return l.answered.Load() }

// Commands returns all commands that have ended.
func (l *Load) Commands() []oracle.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.done)
}

// Steps returns all operations that have ended, except reads without a response.
func (l *Load) Steps() []oracle.Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.steps)
}

func (l *Load) client(issue context.Context, id int) {
	rng := rand.New(rand.NewPCG(l.seed, uint64(id)))
	for n := 0; issue.Err() == nil; n++ {
		commands := l.next(rng, fmt.Sprintf("c%d-%d", id, n))
		attempt := l.attempt
		if len(commands) > 1 {
			attempt = l.attemptBulk
		}
		answer := l.until(l.attempts, l.base, commands, attempt)
		for _, c := range commands {
			l.record(id, c)
		}
		if len(commands) == 1 && commands[0].fate == oracle.Applied && rng.Float64() < l.cfg.Resend {
			l.resend(commands[0], answer)
		}
		pause(issue, time.Duration(rng.Int64N(int64(2*l.cfg.Pause)+1)))
	}
}

// next returns one command, or several for one bulk.
func (l *Load) next(rng *rand.Rand, key string) []*command {
	bulk, atomically := rng.Float64() < l.cfg.Bulk, rng.IntN(3) == 0
	all := []*command{l.random(rng, key)}
	for i := 0; bulk && i < 5; i++ {
		all = append(all, l.random(rng, key+"-"+strconv.Itoa(i)))
	}
	for _, c := range all {
		c.atomically = bulk && atomically
	}
	return all
}

// until sends commands until they are settled, or ctx ends. It returns the response to the last attempt.
func (l *Load) until(ctx context.Context, base func() string, commands []*command,
	attempt func(context.Context, string, []*command) ([]byte, bool),
) []byte {
	for _, c := range commands {
		c.from = time.Now()
	}
	for wait := 10 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 300*time.Millisecond) {
		if answer, ok := attempt(ctx, base(), commands); ok {
			return answer
		}
		pause(ctx, wait)
	}
	for _, c := range commands {
		c.fate, c.at = oracle.Unknown, time.Now()
	}
	return nil
}

// attempt sends a single command once.
func (l *Load) attempt(ctx context.Context, base string, commands []*command) ([]byte, bool) {
	c := commands[0]
	status, answer, _, err := l.post(ctx, base+c.path(), c.mediaType(), c.key, c.body())
	var r receipt
	if err != nil || json.Unmarshal(answer, &r) != nil {
		return nil, false
	}
	l.judge(c, status, &r)
	return answer, c.settle(status, r)
}

// attemptBulk sends commands together. It succeeds only if each of them is settled.
func (l *Load) attemptBulk(ctx context.Context, base string, commands []*command) ([]byte, bool) {
	var body []byte
	for _, c := range commands {
		body = append(body, c.line()...)
	}
	path := "/commands"
	if commands[0].atomically {
		path += "?atomic=true"
	}
	status, answer, _, err := l.post(ctx, base+path, "application/x-ndjson", "", body)
	if err != nil || status != http.StatusOK {
		return nil, false
	}
	receipts, ok := parseLines(answer, len(commands))
	for i := range receipts {
		if ok {
			l.judge(commands[i], receipts[i].Status, &receipts[i])
			ok = commands[i].settle(receipts[i].Status, receipts[i])
		}
	}
	return answer, ok
}

// judge reports responses that no client should ever get.
func (l *Load) judge(c *command, status int, r *receipt) {
	switch {
	case status == http.StatusInternalServerError:
		l.report(oracle.Violation{Invariant: "I10", Detail: fmt.Sprintf("command %s (%s) got 500 %s", c.key, c.kind, r.Code)})
	case status >= 400 && status < 500 && !expected[r.Code] && r.Code != "idempotency-key-in-flight":
		l.report(oracle.Violation{Invariant: "I2", Detail: fmt.Sprintf("command %s (%s) got %d %s: %s", c.key, c.kind, status, r.Code, r.Detail)})
	}
}

// resend sends an acknowledged command again: the response must equal the first one, byte for byte.
func (l *Load) resend(c *command, first []byte) {
	for l.attempts.Err() == nil {
		status, answer, replayed, err := l.post(l.attempts, l.base()+c.path(), c.mediaType(), c.key, c.body())
		if err == nil && status < 500 && status != http.StatusConflict {
			if replayed != "true" || !bytes.Equal(answer, first) {
				l.report(oracle.Violation{Invariant: "I2", Detail: fmt.Sprintf("command %s, sent again, got %s (replayed: %q), and at first %s",
					c.key, answer, replayed, first)})
			}
			return
		}
		pause(l.attempts, 50*time.Millisecond)
	}
}

func (l *Load) post(ctx context.Context, url, mediaType, key string, body []byte) (status int, answer []byte, replayed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return l.send(ctx, url, mediaType, key, body)
}

// send posts once, or patches with a merge patch. With an error it also returns the response read so far.
func (l *Load) send(ctx context.Context, url, mediaType, key string, body []byte) (status int, answer []byte, replayed string, err error) {
	method := http.MethodPost
	if mediaType == mergePatch {
		method = http.MethodPatch
	}
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	request.Header.Set("Content-Type", mediaType)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := l.http.Do(request)
	if err != nil {
		return 0, nil, "", err
	}
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, response.Header.Get("Idempotency-Replayed"), errors.Join(err, response.Body.Close())
}

// unrecorded is the client whose commands are not part of a history.
const unrecorded = -1

// record remembers a command that has ended.
func (l *Load) record(client int, c *command) {
	if c.fate != oracle.Unknown {
		l.answered.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	done := oracle.Command{Key: c.key, Fate: c.fate, Code: c.code, Events: c.events()}
	if c.fate == oracle.Applied {
		l.remember(c)
		done.Legs = c.receipt.legs()
		for _, leg := range done.Legs {
			if known := l.acks[leg.Account]; leg.Position > known.position {
				l.acks[leg.Account] = ack{leg.Position, leg.Version, c.from}
			}
		}
	}
	l.done = append(l.done, done)
	if client != unrecorded {
		l.steps = append(l.steps, c.steps(client)...)
	}
}

// reader reads balances, each at the position of an acknowledged command or later.
func (l *Load) reader(ctx context.Context, id int) {
	rng := rand.New(rand.NewPCG(l.seed, uint64(id)))
	for ctx.Err() == nil {
		a := l.accounts[rng.IntN(len(l.accounts)-1)]
		l.mu.Lock()
		known := l.acks[a.id]
		l.mu.Unlock()
		if step, ok := l.read(ctx, l.base(), a.id, known); ok {
			step.Client = id
			l.mu.Lock()
			l.steps = append(l.steps, step)
			l.mu.Unlock()
		}
		pause(ctx, time.Duration(rng.Int64N(int64(2*l.cfg.Pause)+1)))
	}
}

// read reads an account once. ok is false if there was no response.
func (l *Load) read(ctx context.Context, base, id string, known ack) (oracle.Step, bool) {
	var shown struct {
		Balance   string `json:"balance"`
		Held      string `json:"held"`
		Available string `json:"available"`
		Version   int64  `json:"version"`
		Code      string `json:"code"`
	}
	url := fmt.Sprintf("%s/accounts/%s/balance?min_position=%d", base, id, known.position)
	status, applied, err := l.get(ctx, url, &shown)
	switch {
	case err != nil || status == http.StatusServiceUnavailable:
		return oracle.Step{}, false
	case status != http.StatusOK:
		l.report(oracle.Violation{Invariant: "I10", Detail: fmt.Sprintf("GET %s got %d %s", url, status, shown.Code)})
		return oracle.Step{}, false
	case applied < known.position:
		l.report(oracle.Violation{Invariant: "I6", Detail: fmt.Sprintf("GET %s returned the state at position %d", url, applied)})
	}
	balance, err := minor(shown.Balance)
	held, heldErr := minor(shown.Held)
	available, availableErr := minor(shown.Available)
	if errors.Join(err, heldErr, availableErr) != nil {
		return oracle.Step{}, false
	}
	return oracle.Step{
		Account: id, Kind: "read", Fate: oracle.Applied, Version: shown.Version, Balance: balance, Held: held,
		Available: available, AtLeast: known.version,
		From: known.sent, To: time.Now(),
	}, true
}

func (l *Load) get(ctx context.Context, url string, into any) (status int, applied int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, 0, err
	}
	response, err := l.http.Do(request)
	if err != nil {
		return 0, 0, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return 0, 0, err
	}
	applied, _ = strconv.ParseInt(response.Header.Get("Passbook-Position"), 10, 64)
	return response.StatusCode, applied, json.Unmarshal(text, into)
}

// Probe opens an account at one instance and waits until each of its read models shows it, or ctx ends.
func (l *Load) Probe(ctx context.Context, base string) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	c := &command{kind: "open", account: newID(rng), currency: "EUR"}
	c.key = "probe-" + c.account
	at := func() string { return base }
	l.until(ctx, at, []*command{c}, l.attempt)
	l.record(0, c)
	if c.fate != oracle.Applied {
		return fmt.Errorf("no command is accepted: %s", c.code)
	}
	for _, path := range []string{"/accounts/" + c.account + "/balance", "/accounts/" + c.account + "/transactions", "/totals"} {
		for {
			var ignored json.RawMessage
			status, _, err := l.get(ctx, fmt.Sprintf("%s%s?min_position=%d", base, path, c.receipt.Position), &ignored)
			if err == nil && status == http.StatusOK {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("GET %s does not show position %d: %d %s %w", path, c.receipt.Position, status, ignored, err)
			}
			pause(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
