// Package migrations holds the database schema as goose SQL files, one a version, embedded in the binary.
package migrations

import "embed"

// FS holds the migrations at its root, named 00001_name.sql and so on. A file that has been released is never
// changed: databases remember only its number.
//
//go:embed *.sql
var FS embed.FS
