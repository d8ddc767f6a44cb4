-- Positions whose events are only in an archive. DESIGN: docs/adr/0024-a-log-that-begins-later.md.

-- +goose Up
-- One row: the first position from which on the log is whole. Up to the position before it, the log has only the events that
-- commands still need.
create table log_begin (
    only_row       boolean not null default true primary key check (only_row),
    first_position bigint  not null check (first_position > 0)
);
insert into log_begin (first_position) values (1);

-- whole_after is true if the log has every event after a position; otherwise it raises PB001, with the first position from which on
-- it has them all as the detail. A statement that calls it as (select whole_after($1)) has one snapshot for the answer and the events.
-- +goose StatementBegin
create function whole_after(after_position bigint) returns boolean
language plpgsql
stable
as $$
declare
    first bigint := (select b.first_position from log_begin b);
begin
    if first > 1 and after_position < first - 1 then
        raise exception 'the events up to position % are in the archive', first - 1 using errcode = 'PB001', detail = first::text;
    end if;
    return true;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- position_in_archive is position_at for a moment before the first event that the log has. The movements have a row for every event,
-- so they are searched instead; if they do not reach back that far, as after a restore without read models, it raises PB001.
create function position_in_archive(moment timestamptz, first bigint) returns bigint
language plpgsql
stable
as $$
declare
    live   bigint := (select g.generation from live_generations g where g.projection = 'transactions' and g.position >= first - 1);
    low    bigint := 0; -- recorded at or before the moment, or before all events
    high   bigint := first; -- recorded after it
    middle bigint;
    found  record;
begin
    if live is null then
        return whole_after(0)::int; -- raises the error
    end if;
    while high - low > 1 loop
        middle := low + (high - low) / 2;
        select t.position, t.recorded_at into found from transactions t
         where t.generation = live and t.position <= middle order by t.position desc limit 1;
        if found.position > low and found.recorded_at > moment then
            high := found.position;
        else
            low := middle;
        end if;
    end loop;
    return coalesce((select t.position from transactions t
                      where t.generation = live and t.position <= low order by t.position desc limit 1), 0);
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- position_at is the position of the last event recorded at or before a moment, 0 when there is none. recorded_at never
-- decreases as positions grow, so that a binary search over the primary key finds it without an index of its own.
create or replace function position_at(moment timestamptz) returns bigint
language plpgsql
stable
as $$
declare
    low bigint := (select b.first_position - 1 from log_begin b); -- recorded at or before the moment, or the start of the log
    high bigint := 1 + coalesce((select position from events order by position desc limit 1), 0); -- after it, or the end
    middle bigint;
begin
    if low > 0 and moment < (select recorded_at from events where position = low + 1) then
        return position_in_archive(moment, low + 1);
    end if;
    while high - low > 1 loop
        middle := low + (high - low) / 2;
        if (select recorded_at from events where position = middle) <= moment then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
do $$
begin
    perform whole_after(0);
end
$$;
-- +goose StatementEnd
-- +goose StatementBegin
create or replace function position_at(moment timestamptz) returns bigint
language plpgsql
stable
as $$
declare
    low bigint := 0;
    high bigint := 1 + coalesce((select position from events order by position desc limit 1), 0);
    middle bigint;
begin
    while high - low > 1 loop
        middle := low + (high - low) / 2;
        if (select recorded_at from events where position = middle) <= moment then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd
drop function position_in_archive;
drop function whole_after;
drop table log_begin;
