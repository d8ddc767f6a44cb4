// Package eventstore is the log: one table of events whose positions run from 1 without a gap, in commit order. It appends
// batches, reads the log and its streams, and knows nothing of what the events mean but which name the ids of transfers and holds
// and the positions of what they reverse ([Named]). The SQL that writes the log is here and in migrations/00001_log.sql.
//
// # What it guarantees
//
//   - A reader that has seen position N has seen every event up to N, forever: no event ever appears at an earlier position.
//   - A batch is appended whole or not at all, and only if the log ends where its author believes it ends.
//   - An idempotency key is stored once, in the transaction of what it stands for.
//
// # How an append works
//
// Append takes a batch and the [Head] that it was decided on: the position and the id of the log's last event. One database
// function does the rest, in one round trip and one commit:
//
//	take the append lock (one batch at a time in this database, released at commit)
//	read the log's head, in a later statement and so with a fresh snapshot
//	  it is another head        -> do nothing, Moved
//	  a key of the batch stored -> do nothing, Taken says which
//	  otherwise                 -> store the keys and the events, at the positions after the head
//
// Positions have no gap because they are counted from the head under the lock, and a transaction that rolls back leaves the
// head where it was. Position order is commit order because the lock is held until the commit. The head comparison is the
// only optimistic check there is, and it covers whatever the batch was decided on: an append succeeds only if nothing at all
// has been appended since, so every decision in it was made on the whole log. The primary key and unique (stream_id, version)
// turn any write that bypasses the function into an error, never into a gap or a second history.
//
// The id in the head is what notices a log that has lost its tail, in a failover to a standby that had not received it: the
// log may since have grown to the same position, but not to the same event.
//
// # When the head keeps moving
//
// An instance that is told Moved reads the events after its own head and decides again. Another instance can outrun it for
// ever, so [Store.Lock] begins a transaction that takes the append lock first; the events it returns, and what is read in it,
// are then the end of the log until [Locked.Append] commits. The lock is held across a round trip, which is why this is the
// second way and not the first. The database ends a holder that falls silent after 2 s; a waiter gives up after 5 s.
//
// # Failures
//
// An append that returns an error may have been committed, its answer lost on the way. The caller must then forget what it
// knows and read the head again; commands that carry an idempotency key can be sent again.
package eventstore
