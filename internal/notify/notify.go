// Package notify wakes the instances of one database with NOTIFY and LISTEN when one of them has appended. It only saves
// time: an instance without notifications polls the log.
package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// Behind a pooler this is not the process that the server announced at connect.
	processSQL = `select pg_backend_pid()`
	listenSQL  = `listen passbook_events`

	// A notification makes its transaction a write, whose commit would wait for the disk. It need not wait, because a lost
	// notification costs only a poll. The setting holds until the statement's transaction ends.
	notifySQL = `select set_config('synchronous_commit', 'off', true), pg_notify('passbook_events', $1)`
)

// notifyEvery is the shortest time between two notifications of an instance.
const notifyEvery = 10 * time.Millisecond

// Notifier tells the other instances of this one's appends, and this one of theirs. It sends NOTIFY outside the append's
// transaction, since its commit takes a lock that all databases of the cluster share, at most once in 10 ms. A lost
// notification costs its receiver one poll interval.
type Notifier struct {
	pool     *pgxpool.Pool
	instance string
	pending  chan struct{}
}

// New returns the Notifier of an instance. The caller closes the pool; Listen opens its own connection with the pool's
// configuration. Through a connection pooler such as PgBouncer no notification arrives.
func New(pool *pgxpool.Pool, instance string) *Notifier {
	return &Notifier{pool: pool, instance: instance, pending: make(chan struct{}, 1)}
}

// Notify makes Run notify the other instances. It never blocks.
func (n *Notifier) Notify() {
	select {
	case n.pending <- struct{}{}:
	default:
	}
}

// Run sends the notifications until ctx ends, and returns nil. It does not retry a failed one.
func (n *Notifier) Run(ctx context.Context) error {
	interval := time.NewTimer(0)
	defer interval.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-interval.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.pending:
		}
		_, _ = n.pool.Exec(ctx, notifySQL, n.instance) // the others poll
		interval.Reset(notifyEvery)
	}
}

// Listen calls wake as soon as it listens, because it may have missed appends before, and then whenever another instance has
// appended. It returns the error that ended its connection, or that of ctx.
func (n *Notifier) Listen(ctx context.Context, wake func()) error {
	config := n.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return fmt.Errorf("notify: listen: %w", err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("notify: listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	var process uint32
	if err := conn.QueryRow(ctx, processSQL).Scan(&process); err != nil {
		return fmt.Errorf("notify: listen: %w", err)
	}
	if process != conn.PgConn().PID() {
		// LISTEN would apply to a session of the pooler, and wake whichever client has it next. The instance polls instead.
		_ = conn.Close(ctx)
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := conn.Exec(ctx, listenSQL); err != nil {
		return fmt.Errorf("notify: listen: %w", err)
	}
	wake()
	for {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("notify: listen: %w", err)
		}
		if notification.Payload != n.instance {
			wake()
		}
	}
}
