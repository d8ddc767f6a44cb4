package command_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// gate is a pool that can hold statements before they are sent, one by one, lose their answers, and replace text in them by text
// of the same length.
type gate struct {
	pool *pgxpool.Pool
	// arrived receives once for each statement that is held.
	arrived chan struct{}
	// lose loses the next answer: it is received, but the connection breaks.
	lose atomic.Bool
	// instead holds pairs of texts: one in a statement, and the one to send in its place.
	instead [][2]string

	mu   sync.Mutex
	shut bool
	pass chan struct{} // one value lets one statement pass; closed when open
}

func newGate(t testing.TB, url string, instead ...[2]string) *gate {
	t.Helper()
	g := &gate{arrived: make(chan struct{}, 100), pass: make(chan struct{}), instead: instead}
	close(g.pass)
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithTracer(g), postgres.WithMaxConns(4))
	if err != nil {
		t.Fatal(err)
	}
	config := pool.Config()
	pool.Close()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &gatedConn{Conn: conn, gate: g}, nil
	}
	if g.pool, err = pgxpool.NewWithConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.pool.Close)
	return g
}

// close holds every statement from now on.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.shut, g.pass = true, make(chan struct{})
	}
}

// open lets all statements pass, held ones and later ones.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		g.shut = false
		close(g.pass)
	}
}

// waits returns once a statement is held.
func (g *gate) waits(t testing.TB) {
	t.Helper()
	select {
	case <-g.arrived:
	case <-t.Context().Done():
		t.Fatal("no statement has come")
	}
}

// step lets one held statement pass.
func (g *gate) step() {
	g.mu.Lock()
	pass := g.pass
	g.mu.Unlock()
	pass <- struct{}{}
}

func (g *gate) hold(ctx context.Context) {
	g.mu.Lock()
	shut, pass := g.shut, g.pass
	g.mu.Unlock()
	if !shut {
		return
	}
	g.arrived <- struct{}{}
	select {
	case <-pass:
	case <-ctx.Done():
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (g *gate) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	g.hold(ctx)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (g *gate) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (g *gate) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	g.hold(ctx)
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (g *gate) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (g *gate) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// gatedConn is a connection of a gate.
type gatedConn struct {
	net.Conn
	gate *gate
}

var errLost = errors.New("the answer was lost")

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.gate.lose.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, errLost
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	for _, pair := range c.gate.instead {
		if bytes.Contains(b, []byte(pair[0])) {
			b = bytes.ReplaceAll(bytes.Clone(b), []byte(pair[0]), []byte(pair[1]))
		}
	}
	return c.Conn.Write(b)
}

// appendWaits reports whether a session waits for the append lock.
func appendWaits(t testing.TB, pool *pgxpool.Pool) (waits bool) {
	t.Helper()
	if err := pool.QueryRow(context.Background(), pgtest.AppendWaits).Scan(&waits); err != nil {
		t.Fatal(err)
	}
	return waits
}
