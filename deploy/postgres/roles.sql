-- The database and the roles of Passbook, for an administrator to run once as a superuser, in psql, connected to any
-- database of the cluster: psql -f deploy/postgres/roles.sql postgres
-- docs/roles.md explains it. The login roles get their passwords from you: \password passbook_owner, or none, where
-- pg_hba.conf identifies them in another way.

-- Owns the schema. Only server migrate uses it.
create role passbook_owner login;
-- The privileges of a service; the name is fixed. server migrate grants them.
create role passbook_service nologin;
-- The service's login role. There may be several, each in passbook_service.
create role passbook_app login in role passbook_service;

create database passbook owner passbook_owner;
-- Roles are shared by all databases of a cluster: only members of passbook_service may connect to this one.
revoke connect, temporary on database passbook from public;
grant connect on database passbook to passbook_service;

\connect passbook
-- The default since PostgreSQL 15; before, every role could make objects in this schema.
grant create on schema public to passbook_owner;
revoke create on schema public from public;
