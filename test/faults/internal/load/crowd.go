package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"passbook/test/faults/internal/oracle"
)

// Crowd configures clients that only deposit, each at one instance. Commands without a response when the instance is killed
// are sent to it again.
type Crowd struct {
	// Bases are the instances; Clients is how many clients each has.
	Bases   []string
	Clients int
	// Lines is how many deposits a client sends in one stream of NDJSON; with 1 it sends single commands.
	Lines int
	// AnswerLimit is how long an instance may leave a request without a response, and CommandLimit how long it may take
	// to settle a command, kills included. Taking longer is a violation.
	AnswerLimit, CommandLimit time.Duration
	// Mixed has the clients send commands of all kinds, and not deposits alone.
	Mixed bool
}

// StartCrowd starts the clients. Finish and Abandon end them.
func (l *Load) StartCrowd(c Crowd) {
	issue, stop := context.WithCancel(l.attempts)
	l.stop = stop
	for i, base := range c.Bases {
		for n := range c.Clients {
			l.running.Go(func() { l.depositor(issue, c, base, i*c.Clients+n) })
		}
	}
}

func (l *Load) depositor(issue context.Context, c Crowd, base string, id int) {
	rng := rand.New(rand.NewPCG(l.seed, uint64(id)))
	for n := 0; issue.Err() == nil; n++ {
		open := make([]*command, c.Lines)
		for i := range open {
			if c.Mixed {
				open[i] = l.random(rng, fmt.Sprintf("m%d-%d-%d", id, n, i))
				continue
			}
			open[i] = &command{
				kind: "deposit", key: fmt.Sprintf("d%d-%d-%d", id, n, i), amount: 1 + rng.Int64N(100),
				account: l.accounts[rng.IntN(len(l.accounts))].id,
			}
		}
		l.seeThrough(c, base, open)
	}
}

// seeThrough sends commands until each is settled, or its time is over.
func (l *Load) seeThrough(c Crowd, base string, open []*command) {
	ctx, cancel := context.WithTimeout(l.attempts, c.CommandLimit)
	defer cancel()
	for wait := 10 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 200*time.Millisecond) {
		if open = l.attemptAt(ctx, c, base, open); len(open) == 0 {
			return
		}
		pause(ctx, wait)
	}
	if l.attempts.Err() == nil {
		l.report(oracle.Violation{Invariant: "liveness", Detail: fmt.Sprintf("command %s at %s is not settled within %s",
			open[0].key, base, c.CommandLimit)})
	}
	for _, c := range open {
		c.fate = oracle.Unknown
		l.record(unrecorded, c)
	}
}

// attemptAt sends commands once, and returns those that are not settled.
func (l *Load) attemptAt(ctx context.Context, c Crowd, base string, open []*command) []*command {
	limited, cancel := context.WithTimeout(ctx, c.AnswerLimit)
	defer cancel()
	var err error
	if c.Lines == 1 {
		err = l.attemptSingle(limited, base, open[0])
	} else {
		err = l.attemptStream(limited, base, open)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		l.report(oracle.Violation{Invariant: "liveness", Detail: fmt.Sprintf("%s left a request without a response for %s", base, c.AnswerLimit)})
	}
	var left []*command
	for _, c := range open {
		if c.fate == oracle.Unknown {
			left = append(left, c)
		} else {
			l.record(unrecorded, c)
		}
	}
	return left
}

func (l *Load) attemptSingle(ctx context.Context, base string, c *command) error {
	status, answer, _, err := l.send(ctx, base+c.path(), c.mediaType(), c.key, c.body())
	var r receipt
	if err != nil || json.Unmarshal(answer, &r) != nil {
		return err
	}
	l.judge(c, status, &r)
	c.settle(status, r)
	return nil
}

// attemptStream sends commands as one stream. An item with a result is settled, whatever happens to the rest.
func (l *Load) attemptStream(ctx context.Context, base string, open []*command) error {
	var body []byte
	for _, c := range open {
		body = append(body, c.line()...)
	}
	status, answer, _, err := l.send(ctx, base+"/commands", "application/x-ndjson", "", body)
	if status != http.StatusOK {
		if status != 0 && status != http.StatusServiceUnavailable {
			l.report(oracle.Violation{Invariant: "I10", Detail: fmt.Sprintf("a stream was answered with %d %.200s", status, answer)})
		}
		return err
	}
	for i := range open {
		line, rest, whole := bytes.Cut(answer, []byte{'\n'})
		var r receipt
		if !whole || json.Unmarshal(line, &r) != nil || r.Status == 0 {
			if err == nil {
				l.report(oracle.Violation{Invariant: "I10", Detail: fmt.Sprintf("a stream of %d items has %d results", len(open), i)})
			}
			break
		}
		answer = rest
		l.judge(open[i], r.Status, &r)
		open[i].settle(r.Status, r)
	}
	return err
}
