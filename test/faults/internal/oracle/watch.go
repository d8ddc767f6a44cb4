package oracle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// watchSQL makes the database watch its checkpoints: only the instance that took the current epoch may move one, and none
// may go back. Instances are distinguished by application_name, which the suite sets.
const watchSQL = `
create schema faults;
create table faults.violations (invariant text not null, detail text not null, at timestamptz not null default clock_timestamp());
create table faults.owners (projection text not null, epoch bigint not null, app text not null, primary key (projection, epoch));
create function faults.watch() returns trigger language plpgsql security definer as $$
declare
    app text := current_setting('application_name');
    owner text;
begin
    if new.epoch <> old.epoch then
        insert into faults.owners values (new.id, new.epoch, app) on conflict (projection, epoch) do update set app = excluded.app;
    end if;
    if new.position < old.position then
        insert into faults.violations values ('I6', format('%s went back from position %s to %s', new.id, old.position, new.position));
    end if;
    if new.position <> old.position then
        select o.app into owner from faults.owners o where o.projection = new.id and o.epoch = new.epoch;
        if owner is distinct from app then
            insert into faults.violations values ('I5', format('%s was moved to position %s by %s, and epoch %s is that of %s',
                new.id, new.position, app, new.epoch, owner));
        end if;
    end if;
    return null;
end $$;
create trigger faults_watch after update on projections for each row execute function faults.watch();
-- The service does not start on a schema with triggers that its migrations have not made, but for internal ones.
update pg_trigger set tgisinternal = true where tgname = 'faults_watch';
insert into faults.owners select id, epoch, 'before the watch' from projections where epoch > 0`

// Watch installs the triggers, as a superuser, before any instance of the service has run. The schema must exist.
func Watch(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, watchSQL); err != nil {
		return fmt.Errorf("oracle: watch: %w", err)
	}
	return nil
}

// Tail follows the log as any reader does, and reports a position that it would have skipped: I1. It reconnects by dial
// whenever its connection is lost, and returns when ctx ends.
func Tail(ctx context.Context, dial func(context.Context) (*pgx.Conn, error), report func(Violation)) {
	const nextSQL = `select position from events where position > $1 order by position limit 5000`
	var last int64
	for ctx.Err() == nil {
		conn, err := dial(ctx)
		if err != nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		for err == nil && ctx.Err() == nil {
			var position int64
			err = each(ctx, conn, []any{&position}, func() error {
				if position != last+1 {
					report(Violation{"I1", fmt.Sprintf("a reader of the log was shown position %d after %d", position, last)})
				}
				last = position
				return nil
			}, nextSQL, last)
			pause(ctx, 3*time.Millisecond)
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
