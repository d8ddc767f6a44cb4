package eventstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// Behind a pooler it is not the process that the connection was told of.
	processSQL = `select pg_backend_pid()`
	listenSQL  = `listen passbook_events`

	// A notification makes its transaction one that writes, whose commit would wait for the disk; a lost one costs a
	// poll, so it need not. The setting holds until the statement's transaction ends.
	notifySQL = `select set_config('synchronous_commit', 'off', true), pg_notify('passbook_events', $1)`
)

// notifyEvery is the shortest time between two notifications of an instance.
const notifyEvery = 10 * time.Millisecond

// Alarm tells the other instances that this one has appended, and this one that others have. NOTIFY is sent outside the
// append's transaction, since it takes a lock at commit that all databases of the cluster share; one in 10 ms at most.
// A notification that is lost costs its receiver one poll interval.
type Alarm struct {
	pool     *pgxpool.Pool
	instance string
	raised   chan struct{}
}

// NewAlarm makes the Alarm of an instance. The pool stays the caller's to close; Listen takes no connection of it but one
// of its own, made in the same way. Through a connection pooler such as PgBouncer nothing can be heard.
func NewAlarm(pool *pgxpool.Pool, instance string) *Alarm {
	return &Alarm{pool: pool, instance: instance, raised: make(chan struct{}, 1)}
}

// Raise has the other instances told. It never blocks.
func (a *Alarm) Raise() {
	select {
	case a.raised <- struct{}{}:
	default:
	}
}

// Run sends what was raised until ctx ends, and answers nil. What could not be sent is not sent again.
func (a *Alarm) Run(ctx context.Context) error {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.raised:
		}
		_, _ = a.pool.Exec(ctx, notifySQL, a.instance) // the others poll
		rest.Reset(notifyEvery)
	}
}

// Listen calls wake when it has begun to listen, for what was missed before, and then whenever another instance has
// appended. It ends with the error that cut its connection, or with that of ctx.
func (a *Alarm) Listen(ctx context.Context, wake func()) error {
	config := a.pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return fmt.Errorf("eventstore: listen: %w", err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("eventstore: listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	var process uint32
	if err := conn.QueryRow(ctx, processSQL).Scan(&process); err != nil {
		return fmt.Errorf("eventstore: listen: %w", err)
	}
	if process != conn.PgConn().PID() {
		// Another client would hear, on the session that has listened.
		_ = conn.Close(ctx)
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := conn.Exec(ctx, listenSQL); err != nil {
		return fmt.Errorf("eventstore: listen: %w", err)
	}
	wake()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("eventstore: listen: %w", err)
		}
		if n.Payload != a.instance {
			wake()
		}
	}
}
