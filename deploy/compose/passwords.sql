-- The passwords that docker-compose.yml has in its URLs, after deploy/postgres/roles.sql has made the roles. The database's
-- port is not published: only the containers of that file can reach it.
alter role passbook_owner password 'passbook_owner';
alter role passbook_app password 'passbook_app';
