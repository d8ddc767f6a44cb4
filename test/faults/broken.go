package main

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/test/faults/internal/wire"
	"passbook/test/faults/internal/world"
)

// appendFunction is the function that appends.
const appendFunction = "append"

// The parts of its text that the controls replace: the append lock, the comparison of the log's head with the head that the
// batch was decided on, and the lookup of the keys.
var (
	lockStatement = regexp.MustCompile(`perform pg_advisory_xact_lock\(\d+\);`)
	headCompared  = regexp.MustCompile(`(?s)moved := [^;]*?;\s*if moved then.*?end if;`)
	keysCompared  = regexp.MustCompile(`(?s)select array_agg\(k\.key\) into taken [^;]*?;\s*if taken is not null then.*?end if;`)
	keysInserted  = regexp.MustCompile(`insert into idempotency_keys`)
	keysFrom      = regexp.MustCompile(`from unnest\(keys, fingerprints, [^;]*;`)
)

// staleAllowed compares the heads, but accepts a batch that was decided on a slightly older one. An instance that is far
// behind is still refused, or it would not know the accounts that another has opened.
const staleAllowed = `moved := last_position <> head_position and (last_position < 30 or last_position > head_position + 20);
    if moved then
        return;
    end if;
    `

// rewritten applies change to the text of the append function. It fails if change finds nothing to change: the function has
// been rewritten, and the control must follow.
func rewritten(setup string, change func(text string) string) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		text, err := source(ctx, conn)
		if err != nil {
			return err
		}
		broken := change(text)
		if broken == text {
			return errors.New(appendFunction + " has changed under the control: there is nothing to break")
		}
		_, err = conn.Exec(ctx, strings.Join([]string{
			setup, broken, "grant usage on schema faults to passbook",
			"grant all on all tables in schema faults to passbook; grant all on all sequences in schema faults to passbook",
		}, ";\n"))
		return err
	}
}

// replaced replaces each pattern by its text, everywhere; it changes nothing unless it finds all patterns.
func replaced(text string, pairs ...any) string {
	whole := text
	for i := 0; i < len(pairs); i += 2 {
		pattern, by := pairs[i].(*regexp.Regexp), pairs[i+1].(string)
		if !pattern.MatchString(whole) {
			return text
		}
		whole = pattern.ReplaceAllLiteralString(whole, by)
	}
	return whole
}

const (
	begin    = "begin; set local idle_in_transaction_session_timeout"
	advance  = "set position = $2, last_event_id = $3"
	lockLive = "select position, last_event_id, status, generation from projections where id = $1 and epoch = $2 for update"
	reversed = "type in ('CreditReversed', 'DebitReversed')"
	flip     = "previous_generation = case when not $8 then generation end"
)

// controls returns all controls.
func controls() []control {
	return slices.Concat(appendControls(), projectionControls(), holdControls())
}

// appendControls break the write side.
func appendControls() []control {
	return []control{
		{
			name: "positions from a sequence, taken outside the lock", invariants: []string{"I1"},
			overlay: rewritten(`create sequence faults.serial`, func(text string) string {
				return replaced(text, lockStatement, "", headCompared, staleAllowed+`perform pg_advisory_lock(1);
    head_position := nextval('faults.serial') - 1;
    perform setval('faults.serial', head_position + cardinality(streams));
    perform pg_advisory_unlock(1);
    recorded := clock_timestamp();
    perform pg_sleep(random() * 0.05);`)
			}),
		},
		{
			name: "the head is compared before the lock is taken", invariants: []string{"I10", "I1"},
			overlay: rewritten(`select 1`, func(text string) string {
				compared, lock := headCompared.FindString(text), lockStatement.FindString(text)
				return replaced(text, lockStatement, "", headCompared, compared+"\n    perform pg_sleep(random() * 0.02);\n    "+lock)
			}),
		},
		{
			name: "the head is not compared: decided on a stale state", invariants: []string{"I3"},
			overlay: rewritten(`select 1`, func(text string) string {
				return replaced(text, headCompared, staleAllowed+`head_position := last_position;
    select array_agg(coalesce((select max(e.version) from events e where e.stream_id = u.s), 0) + u.k order by u.n) into versions
      from (select s, n, row_number() over (partition by s order by n) as k
              from unnest(streams) with ordinality as w(s, n)) as u;`)
			}),
		},
		{
			name: "keys are not compared", invariants: []string{"I2"},
			overlay: rewritten(`select 1`, func(text string) string {
				insert := strings.TrimSuffix(keysFrom.FindString(text), ";")
				return replaced(text, keysCompared, "", keysFrom, insert+" on conflict do nothing;")
			}),
		},
		{
			name: "keys are stored after the append", invariants: []string{"I2"},
			overlay: rewritten(`create table faults.late_keys (like idempotency_keys)`, func(text string) string {
				return replaced(text, keysInserted, "insert into faults.late_keys")
			}),
			act: storeKeysLate,
		},
		{
			name: "a transfer loses a cent", invariants: []string{"I8"},
			overlay: execute(`create function faults.skim() returns trigger language plpgsql as
$$ begin new.payload := jsonb_set(new.payload, '{amount}', to_jsonb((new.payload->>'amount')::bigint + 1)); return new; end $$;
create trigger faults_skim before insert on events for each row when (new.type = 'TransferReceived') execute function faults.skim()`),
		},
		{
			name: "what has been reversed of a movement is not looked up", invariants: []string{"I3"}, act: letWork,
			rules: func(*stage) []*wire.Rule {
				// Without the condition the statement could not use its index. PostgreSQL would then compile it at each
				// execution, which takes seconds, and commands would time out.
				return []*wire.Rule{{Match: reversed, Old: reversed, New: reversed + " and false"}}
			},
		},
	}
}

// projectionControls break the projector and the reads.
func projectionControls() []control {
	return []control{
		{
			name: "the checkpoint moves in a separate transaction", invariants: []string{"I4"},
			rules: func(st *stage) []*wire.Rule {
				return []*wire.Rule{{Match: advance, Then: "commit; begin"}, st.holding("", "update balances b")}
			},
			act: killBetween,
		},
		{
			name: "the epoch is not compared: a stalled owner writes", invariants: []string{"I5"},
			rules: func(*stage) []*wire.Rule {
				return []*wire.Rule{{Match: advance, Old: "and epoch = $5 and", New: "and $5::bigint is not null and"}}
			},
			act: stallOwner,
		},
		{
			name: "a generation goes live without a check of its position", invariants: []string{"I6"},
			rules: func(*stage) []*wire.Rule {
				return []*wire.Rule{
					{Match: lockLive, Old: "select position, last_event_id,", New: "select 0::bigint, null::uuid,"},
					{Match: flip, Old: " and (position <= $4 or $8)", New: ""},
				}
			},
			act: flipBehind,
		},
		{
			name: "an event that cannot be applied is skipped", invariants: []string{"I4", "I7"},
			overlay: execute(`create function faults.forget() returns trigger language plpgsql security definer as
$$ begin delete from projection_failures where projection = new.id and parked; return null; end $$;
create constraint trigger faults_forget after update on projections deferrable initially deferred
for each row when (new.position <> old.position) execute function faults.forget()`),
			act: func(ctx context.Context, st *stage) error {
				return st.w.With(ctx, func(conn *pgx.Conn) error {
					return poison(ctx, conn, st.w.Load.Commands()[0].Legs[0].Account)
				})
			},
		},
		{
			name: "reads do not wait for min_position", invariants: []string{"linearizability"},
			rules: func(*stage) []*wire.Rule {
				return []*wire.Rule{
					{Match: "select id, position from projections", Old: "position from", New: "position + 1000000000 from"},
					{Match: "select p.position, b.account_id", Old: "p.position", New: "p.position + 1000000000"},
				}
			},
			act: letWork,
			then: func(ctx context.Context, w *world.World) error {
				_, err := w.CheckLinear(ctx)
				return err
			},
		},
	}
}

// holdControls break the read models of holds.
func holdControls() []control {
	replacing := func(text, by string) func(*stage) []*wire.Rule {
		return func(*stage) []*wire.Rule { return []*wire.Rule{{Match: text, Old: text, New: by}} }
	}
	return []control{
		{
			name: "what is held is not stored with the balance", invariants: []string{"I4"}, act: letWork,
			rules: replacing("held = b.held + u.held", "held = b.held + 0 * u.held"),
		},
		{
			name: "a hold that has ended stays open in the read model", invariants: []string{"I4"}, act: letWork,
			rules: replacing("update holds h\nset status = u.status", "update holds h\nset status = h.status"),
		},
	}
}

// letWork gives the load time.
func letWork(ctx context.Context, _ *stage) error {
	pause(ctx, 3*time.Second)
	return nil
}

func execute(sql string) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	}
}

// storeKeysLate stores the keys as the broken service does: a little later.
func storeKeysLate(ctx context.Context, st *stage) error {
	return st.w.With(ctx, func(conn *pgx.Conn) error {
		for ctx.Err() == nil {
			_, err := conn.Exec(ctx, `with late as (delete from faults.late_keys returning *)
insert into idempotency_keys select * from late on conflict do nothing`)
			if err != nil && ctx.Err() == nil {
				return err
			}
			pause(ctx, 100*time.Millisecond)
		}
		return nil
	})
}

// killBetween kills an instance after it has moved a checkpoint and before it writes the rows.
func killBetween(ctx context.Context, st *stage) error {
	st.held.Store("", true)
	if err := eventually(ctx, "a batch is written", func() (bool, error) { return st.reached.Load() > 0, nil }); err != nil {
		return err
	}
	for _, s := range st.w.Servers {
		if err := s.Stop(syscall.SIGKILL); err != nil {
			return err
		}
	}
	st.held.Delete("")
	for _, s := range st.w.Servers {
		if err := s.Start(); err != nil {
			return err
		}
	}
	return nil
}

// stallOwner stalls the owner of balances before a batch until the other instance has taken over, and resumes it before the
// other begins a batch.
func stallOwner(ctx context.Context, st *stage) error {
	first, epoch, err := owner(ctx, st.w)
	if err != nil {
		return err
	}
	for _, s := range st.w.Servers {
		st.held.Store(s.Name, true)
	}
	err = eventually(ctx, "the other instance takes over", func() (bool, error) {
		other, now, err := owner(ctx, st.w)
		return err == nil && other != first && now > epoch, err
	})
	if err != nil {
		return err
	}
	st.held.Delete(first.Name)
	pause(ctx, 500*time.Millisecond)
	st.held.Clear()
	return nil
}

// flipBehind delays a flip until the live generation has moved past it.
func flipBehind(ctx context.Context, st *stage) error {
	position := func() (n int64, err error) {
		err = st.w.With(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `select position from projections where id = 'balances'`).Scan(&n)
		})
		return n, err
	}
	name := st.w.Database + "-flip"
	st.held.Store(name, true)
	if err := call(ctx, "POST", st.w.Servers[0].Direct()+"/projections/balances/replay", nil); err != nil {
		return err
	}
	if err := eventually(ctx, "the generation is complete", func() (bool, error) { return st.reached.Load() > 0, nil }); err != nil {
		return err
	}
	then, err := position()
	if err != nil {
		return err
	}
	err = eventually(ctx, "the live generation moves past it", func() (bool, error) {
		now, err := position()
		return now > then+20, err
	})
	st.held.Delete(name)
	return err
}
