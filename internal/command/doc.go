// Package command is the write side: it brings commands that arrive together into one append, decides each on the current
// state of its accounts, and returns only when the events are durable.
//
// # The protocol
//
// What an instance knows is the fold of the log up to one position, its head: the accounts it holds in memory are as they
// stood after that event, all of them. One goroutine, the batcher, does the following, over and over:
//
//	take the commands that wait          (queue.go: single commands first, then bulk)
//	look up what the commands name       (accounts.go: ids of transfers and holds, movements to reverse; up to the head)
//	load the accounts that are missing   (accounts.go: the last snapshot and the events after it, never beyond the head)
//	decide each command in order         (decide.go: events, or a refusal, on what the commands before it left)
//	append the batch on the head         (eventstore: nothing is done if the log's head is another)
//	  written -> move the head, keep the new states, answer every caller
//	  moved   -> catch up: apply the events after the head to the accounts held; decide again
//	  taken   -> answer the commands whose key is stored with their first answer; decide the others again
//	  error   -> the outcome is unknown: forget everything, answer with the error
//
// There is no timer. Commands that arrive while a batch commits are the next batch (group commit), so that a batch costs one
// round trip and one flush whatever its size, and a lone command does not wait.
//
// # Why it is right
//
// An append succeeds only on the log's head, so whatever succeeds was decided on the whole log: acceptances, refusals, dry runs and
// If-Match alike, about one account or several, and whether an id is new, a hold has ended or a movement has been reversed. What
// the log says of these across accounts is an account.Index, to which the batch adds its own events. A refusal or a dry run appends
// no event, but it is confirmed by the same call. There are no stale accounts to reason about, and no conflict of a single command.
//
// Loading stops at the head because the check vouches for nothing beyond it. An event read past the head could be lost in a
// failover that leaves the head in place, and the append would then succeed on a state that never was. Snapshots are part of the
// log: about every hundredth event of an account carries the state after it in its metadata. So a snapshot cannot be forged or
// outlive its event.
//
// # Several instances
//
// Moved means that another instance was first. An instance that is told so twice in a row takes the append lock and then
// reads, decides and appends in one transaction, which cannot be overtaken; it goes on like that while others keep
// appending. So no command is given up, however many instances write.
//
// # Idempotency keys
//
// A key is stored with the first answer that the rules gave, in the transaction of its events. A success is rendered again
// from the events, which never change; of a refusal the answer itself is stored. Whatever the rules did not decide (a database
// that is unavailable, an error) leaves no key. Nor does a dry run, which is taken back once it is decided. A key that occurs twice in one call is a replay of its first occurrence.
//
// # Failures
//
// If the event at an instance's head is no longer in the log (a failover lost the tail), the instance forgets all it knew and
// begins at the log's new head. A panic in the batcher ends the process: commands would wait for it for ever.
package command
