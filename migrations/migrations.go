// Package migrations holds the database schema as goose SQL files, one a version, embedded in the binary.
package migrations

import "embed"

// FS holds the migrations at its root, named 00001_name.sql and so on. A file that has been released is never
// changed: databases remember only its number. A release adds its own to released.sum (sha256sum 0*.sql), which a test
// holds the files against; internal/postgres/schema.txt is what they make.
//
//go:embed *.sql
var FS embed.FS
