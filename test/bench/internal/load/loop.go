package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// maxFailures is how many times in a row a worker may fail before it gives up.
const maxFailures = 10

// loop sends one request after another over one connection.
type loop struct {
	tally
	addr string
	pace *pace
	// turns are what is sent, in turn.
	turns []expecting
	sent  int
}

// expecting is a kind of request with its expected status.
type expecting struct {
	// next returns the next request, valid until the next call; nil ends the loop.
	next func() []byte
	want int
}

func newLoop(addr string, p *pace, turns ...expecting) *loop {
	return &loop{tally: newTally(), addr: addr, pace: p, turns: turns}
}

// single is a loop whose requests are counted separately.
type single struct{ *loop }

func (s *single) counted() *tally {
	apart := newTally()
	apart.errors, apart.firstError, apart.beside = s.errors, s.firstError, s.latency
	return &apart
}

func (l *loop) run(ctx context.Context, start, deadline time.Time) {
	// Connected first, so that no request's latency is that of a connection; a failure is the first request's.
	c, _ := dial(ctx, l.addr, deadline.Add(grace))
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for failures := 0; failures < maxFailures && ctx.Err() == nil; {
		sent := time.Now()
		if l.pace != nil {
			sent = l.pace.wait(ctx, start, deadline)
		}
		turn := l.turns[l.sent%len(l.turns)]
		l.sent++
		request := turn.next()
		if request == nil || !sent.Before(deadline) || ctx.Err() != nil {
			return
		}
		done, err := l.once(ctx, &c, request, turn.want, deadline)
		if err != nil {
			l.fail(err)
			failures++
			continue
		}
		failures = 0
		if !done.After(deadline) {
			l.requests++
			l.latency.Add(done.Sub(sent))
		}
	}
}

// once sends a request over the connection, and connects if necessary.
func (l *loop) once(ctx context.Context, c **conn, request []byte, want int, deadline time.Time) (time.Time, error) {
	a, err := exchange(ctx, c, l.addr, request, deadline)
	done := time.Now()
	if err != nil {
		return done, err
	}
	return done, a.expect(want)
}

func exchange(ctx context.Context, c **conn, addr string, request []byte, deadline time.Time) (*answer, error) {
	var err error
	if *c == nil {
		if *c, err = dial(ctx, addr, deadline.Add(grace)); err != nil {
			return nil, err
		}
	}
	a, err := (*c).exchange(request)
	if err != nil || a.closes {
		(*c).close()
		*c = nil
	}
	return a, err
}

func (a *answer) expect(status int) error {
	if a.status != status {
		return fmt.Errorf("status %d: %s", a.status, bytes.TrimSpace(a.body[:min(len(a.body), 200)]))
	}
	return nil
}

// pace schedules a connection's requests, so that all connections together send at an even rate.
type pace struct {
	due, interval time.Duration // since the start
	timer         *time.Timer
}

// newPace returns nil for a rate of 0: no pace.
func newPace(rate float64, conn, conns int) *pace {
	if rate <= 0 {
		return nil
	}
	each := float64(time.Second) / rate
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &pace{due: time.Duration(each * float64(conn)), interval: time.Duration(each * float64(conns)), timer: timer}
}

// wait returns when the next request is due, or at once when it is overdue or not due before the deadline, with the
// time at which it is due.
func (p *pace) wait(ctx context.Context, start, deadline time.Time) time.Time {
	due := start.Add(p.due)
	p.due += p.interval
	if left := time.Until(due); left > 0 && due.Before(deadline) {
		p.timer.Reset(left)
		select {
		case <-p.timer.C:
		case <-ctx.Done():
		}
	}
	return due
}

// sampler measures how long a committed deposit takes to be visible to a query.
type sampler struct {
	tally
	addr     string
	deposits func() []byte
	query    []byte
}

var errNoPosition = errors.New("the answer has no position")

func (s *sampler) run(ctx context.Context, _, deadline time.Time) {
	var c *conn
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for failures := 0; failures < maxFailures && ctx.Err() == nil && time.Now().Before(deadline); {
		if err := s.sample(ctx, &c, deadline); err != nil {
			s.fail(err)
			failures++
			continue
		}
		failures = 0
	}
}

func (s *sampler) sample(ctx context.Context, c **conn, deadline time.Time) error {
	request := s.deposits()
	at := indexOf(request, `{"account_id":"`) + len(`{"account_id":"`)
	s.query = append(s.query[:0], "GET /accounts/"...)
	s.query = append(s.query, request[at:at+idLen]...)
	a, err := exchange(ctx, c, s.addr, request, deadline)
	committed := time.Now()
	if err != nil {
		return err
	}
	if err := a.expect(201); err != nil {
		return err
	}
	position, ok := a.position()
	if !ok {
		return errNoPosition
	}
	s.query = strconv.AppendInt(append(s.query, "/balance?min_position="...), position, 10)
	s.query = append(s.query, " HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=10\r\n\r\n"...)
	if a, err = exchange(ctx, c, s.addr, s.query, deadline); err != nil {
		return err
	}
	if err := a.expect(200); err != nil {
		return err
	}
	s.visible.Add(time.Since(committed))
	return nil
}

// position is that of a receipt.
func (a *answer) position() (int64, bool) {
	_, rest, ok := bytes.Cut(a.body, []byte(`"position":`))
	if !ok {
		return 0, false
	}
	end := bytes.IndexAny(rest, ",} ")
	if end < 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n, err == nil
}
