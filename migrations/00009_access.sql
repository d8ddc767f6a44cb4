-- Who read what of whom, apart from the log. DESIGN: docs/adr/0023-access-audit.md.

-- +goose Up
create table access_records (
    -- By the clock of the instance that served the request.
    at          timestamptz not null,
    -- One run of one instance, which numbers its records from 1 without gaps.
    run         uuid        not null,
    number      bigint      not null,
    kind        text        not null check (kind in ('read', 'opened', 'started', 'stopped', 'dropped')),
    -- Empty without authentication; null for records that are not of a request.
    caller      text,
    caller_name text        not null default '',
    method      text        not null default '',
    route       text        not null default '',
    -- The accounts concerned; null if it may be any account.
    accounts    uuid[],
    status      integer     not null default 0,
    request_id  text        not null default '',
    address     inet,
    -- The position of the log that was served, or 0.
    position    bigint      not null default 0,
    detail      text        not null default '',
    -- In the order of lists; it also makes a batch whose outcome was unknown safe to send again.
    primary key (at, run, number)
);
create index access_records_accounts on access_records using gin (accounts);
create index access_records_any_account on access_records (at) where accounts is null;

-- expire_access deletes up to 5,000 records that are older than keep, and returns how many. It keeps those of the last day whatever it
-- is told, and does nothing while another instance deletes. The service may call it, and cannot delete otherwise.
-- +goose StatementBegin
create function expire_access(keep interval) returns bigint language plpgsql as $$
declare
    deleted bigint;
begin
    if not pg_try_advisory_xact_lock(7018230190) then
        return 0;
    end if;
    delete from access_records where (at, run, number) in (
        select at, run, number from access_records where at < clock_timestamp() - greatest(keep, interval '1 day') order by at limit 5000);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
-- +goose StatementEnd

-- +goose Down
drop function expire_access;
drop table access_records;
