// Package archive exports closed partitions of the log to Parquet files and reads them back, and detaches them from the log and attaches
// them again. Its SQL is here and in migrations/00006_partitions.sql and 00010_archive.sql. DESIGN: docs/adr/0024-a-log-that-begins-later.md.
//
// # What a directory holds
//
// Each partition is two files, named after its first and last position:
//
//	events-0000000000000000001-0000000000010000000.parquet   the rows, with the columns of the table events
//	events-0000000000000000001-0000000000010000000.json      the Manifest: what the rows are, and hashes of them
//
// Both are written under another name and renamed, the manifest last: a partition is exported once its manifest is there.
//
// A manifest has two hashes. FileSHA256 finds a damaged file. RowsSHA256 is over the rows in an encoding that does not depend on
// Parquet ([Hash]), so that the file and the table can be compared without having both at hand.
//
// # Detaching and attaching
//
//	              export            Detach                     Drop
//	┌───────────┐        ┌────────┐        ┌────────────────┐        ┌────────────┐
//	│   whole   │ ─────▶ │ whole, │ ─────▶ │ stub, detached │ ─────▶ │   stub,    │
//	│           │        │  file  │        │  table, file   │        │    file    │
//	└───────────┘        └────────┘        └────────────────┘        └────────────┘
//	                          ▲       Attach        │       Attach         │
//	                          └─────────────────────┴──────────────────────┘
//
// Each arrow but export is one transaction ([Detach], [Attach]), and log_begin moves in the same one as the table. The database is the
// authority: a process that is killed leaves one of these states, and at most a table that is not yet a part of the log, which the next run
// drops, or goes on with if it is whole. One process at a time works on a log; servers go on reading and appending.
package archive
