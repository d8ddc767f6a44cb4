package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer is a PgBouncer in transaction mode in front of a cluster.
type Bouncer struct {
	// Addr is where it listens.
	Addr    string
	process *process
}

// The pooler must accept the parameters that the service sends when it connects, but does not apply them: timeouts that
// matter are set on the role, with alter role passbook set statement_timeout = '10s' and the like.
const bouncerINI = `[databases]
* = host=127.0.0.1 port=%d

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 30
max_client_conn = 300
ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,plan_cache_mode,extra_float_digits
`

// NewBouncer starts the program and waits until it is ready. The caller closes it.
func NewBouncer(ctx context.Context, c *Cluster, program string) (*Bouncer, error) {
	dir := filepath.Join(filepath.Dir(c.Data), "pgbouncer-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	users, ini := filepath.Join(dir, "users"), filepath.Join(dir, "ini")
	err = errors.Join(os.WriteFile(users, []byte("\"passbook\" \"\"\n\"postgres\" \"\"\n"), 0o644),
		os.WriteFile(ini, fmt.Appendf(nil, bouncerINI, c.Port, port, users), 0o644))
	if err != nil {
		return nil, err
	}
	attr := c.Programs.attr
	log := filepath.Join(filepath.Dir(c.Data), "pgbouncer.log")
	b := &Bouncer{Addr: "127.0.0.1:" + strconv.Itoa(port)}
	if b.process, err = start(log, program, c.Programs.environment(), &attr, ini); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, "postgres://passbook@"+b.Addr+"/postgres?sslmode=disable&default_query_exec_mode=simple_protocol")
		if err == nil {
			return b, conn.Close(ctx)
		}
		select {
		case <-b.process.ended:
			return nil, fmt.Errorf("pgbouncer ended: %s", tail(log))
		case <-ctx.Done():
			b.Close()
			return nil, fmt.Errorf("pgbouncer does not respond: %w: %s", err, tail(log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close ends it.
func (b *Bouncer) Close() { _ = b.process.stop(syscall.SIGTERM) }
