// Package archive exports closed partitions of the log to Parquet files and reads them back. Its SQL is here and in
// migrations/00006_partitions.sql.
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
package archive
