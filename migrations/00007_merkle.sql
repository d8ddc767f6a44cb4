-- The Merkle tree over the log, and its latest signed checkpoint. Empty unless the service has a key to sign with.
-- DESIGN: docs/adr/0021-a-log-that-proves-itself.md.

-- +goose Up
-- The hashes of every eighth level of the tree, 256 of 32 bytes in a full row. The leaves are level 0: tile n has those of the
-- positions 256n + 1 to 256n + 256. A tile grows and then never changes.
create table log_tiles (
    level  smallint not null,
    tile   bigint   not null,
    hashes bytea    not null,
    constraint log_tiles_pkey primary key (level, tile),
    constraint log_tiles_whole check (length(hashes) % 32 = 0 and length(hashes) between 32 and 8192)
);
alter table log_tiles alter hashes set storage external; -- hashes do not compress

-- One row, which changes in the transaction that adds the hashes. checkpoint is a signed note in the format C2SP tlog-checkpoint.
create table log_checkpoint (
    one        boolean     not null default true check (one),
    checkpoint text        not null,
    signed_at  timestamptz not null default clock_timestamp(),
    constraint log_checkpoint_pkey primary key (one)
);

-- +goose Down
drop table log_checkpoint;
drop table log_tiles;
