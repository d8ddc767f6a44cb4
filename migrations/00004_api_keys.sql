-- The keys of PASSBOOK_AUTH=keys. DESIGN: docs/adr/0011-keys-and-tokens.md.

-- +goose Up
create table api_keys (
    -- The part of the key that names it; the other part is secret and is not stored.
    id           text        not null primary key,
    name         text        not null,
    -- SHA-256 of the secret, which is 256 random bits and cannot be guessed: a slow hash is not needed.
    hash         bytea       not null check (octet_length(hash) = 32),
    scopes       text[]      not null check (cardinality(scopes) > 0),
    created_at   timestamptz not null default now(),
    -- Accurate to about a minute; null if it was never used.
    last_used_at timestamptz,
    revoked_at   timestamptz
);
-- A name may be used again once its key is revoked.
create unique index api_keys_name on api_keys (name) where revoked_at is null;

-- +goose Down
drop table api_keys;
