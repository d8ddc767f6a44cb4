-- What the write side needs beyond the log itself: snapshots of long streams, and the position that a moment names.

-- +goose Up
-- A shortcut and nothing more: a reader checks that the log still holds the event a snapshot rests on, and every row
-- may be deleted at any time.
create table snapshots (
    stream_id uuid   not null primary key,
    version   bigint not null,
    event_id  uuid   not null,
    state     jsonb  not null
);

-- +goose StatementBegin
-- position_at is the position of the last event recorded at or before a moment, 0 when there is none. recorded_at never
-- decreases as positions grow, so that a binary search over the primary key finds it without an index of its own.
create function position_at(moment timestamptz) returns bigint
language plpgsql
stable
as $$
declare
    low bigint := 0; -- recorded at or before the moment, or the start of the log
    high bigint := 1 + coalesce((select position from events order by position desc limit 1), 0); -- after it, or the end
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

-- +goose Down
drop function position_at;
drop table snapshots;
