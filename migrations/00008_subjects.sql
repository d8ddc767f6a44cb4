-- Erasing people: SubjectErased, and how to find the accounts of a subject. DESIGN: docs/adr/0022-people-who-can-be-forgotten.md.

-- +goose Up
create index events_subject on events ((payload ->> 'subject_id')) where type = 'AccountCreated' and payload ? 'subject_id';
create index events_erased on events ((payload ->> 'subject_id')) where type = 'SubjectErased';

-- E is an erasure.
alter table transactions drop constraint transactions_kind_check;
alter table transactions add constraint transactions_kind_check
    check (kind in ('d', 'w', 'i', 'o', 'b', 'r', 'O', 'S', 'R', 'C', 'N', 'L', 'M', 'E', 'h', 'c', 'f', 'e')) not valid;

-- +goose Down
alter table transactions drop constraint transactions_kind_check;
alter table transactions add constraint transactions_kind_check
    check (kind in ('d', 'w', 'i', 'o', 'b', 'r', 'O', 'S', 'R', 'C', 'N', 'L', 'M', 'h', 'c', 'f', 'e')) not valid;
drop index events_erased;
drop index events_subject;
