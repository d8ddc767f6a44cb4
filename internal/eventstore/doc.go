// Package eventstore is the log: one table of events, in partitions, whose positions run from 1 without a gap, in commit order. It appends
// batches and reads the log and its streams, and refuses to read what is only in an archive. It does not know what the events mean, except where their payloads have the ids of
// transfers and holds and the positions of reversed movements ([Named]). Its SQL is here and in
// migrations/00001_log.sql, 00006_partitions.sql and 00010_archive.sql.
//
// # What it guarantees
//
//   - A reader that has seen position N has seen every event up to N, forever: no event ever appears at an earlier position.
//   - A batch is appended whole or not at all, and only if the log still ends with the event that it was decided on.
//   - An idempotency key is stored once, in the same transaction as the events or the refusal that it belongs to.
//
// # How an append works
//
// Append takes a batch and the [Head] it was decided on: the position and the id of the log's last event. One database
// function does the rest, in one round trip and one commit:
//
//	take the append lock (one batch at a time in this database, released at commit)
//	read the log's head, in a later statement and therefore with a fresh snapshot
//	  it is another head        -> write nothing, return Moved
//	  a key of the batch stored -> write nothing, return the stored keys as Taken
//	  otherwise                 -> store the keys and the events, at the positions after the head
//
// Positions have no gap because they are counted from the head under the lock, and a transaction that rolls back leaves the
// head where it was. Position order is commit order because the lock is held until the commit. Comparing the head is the only
// optimistic check, and it covers everything the batch was decided on: an append succeeds only if nothing has been appended
// since, so every decision in it was made on the whole log. The primary key and, within a partition, unique (stream_id, version)
// turn a conflicting write that bypasses the function into an error.
//
// The id in the head detects a log that has lost its tail, in a failover to a standby that had not received it: the log may have
// grown to the same position since, but with another event there.
//
// # When the head keeps moving
//
// An instance that gets Moved reads the events after its own head and decides again. Because other instances could be faster
// every time, [Store.Lock] begins a transaction that takes the append lock first: nothing can be appended after what it reads
// until [Locked.Append] commits. This holds the lock across a round trip, so it is only the second choice. The database ends a
// session that holds the lock and is idle for 2 s; a waiter gives up after 5 s.
//
// # Failures
//
// An append that returns an error may have committed: perhaps only its answer was lost. The caller must then forget its state and
// read the head again; commands with an idempotency key can be retried.
package eventstore
