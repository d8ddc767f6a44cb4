// Package command is the write side: it brings commands that arrive together into one append, decides each on the current
// state of its accounts, and returns only when the events are durable.
//
// # The protocol
//
// An instance's state is the fold of the log up to one position, its head: all accounts in its cache are as they were after
// that event. One goroutine, the batcher, repeats the following:
//
//	take the queued commands             (queue.go: single commands first, then bulk)
//	look up what the commands name       (accounts.go: ids of transfers and holds, movements to reverse; up to the head)
//	load the accounts not in the cache   (accounts.go: the last snapshot and the events after it, never beyond the head)
//	decide each command in order         (decide.go: events, or a refusal, on the state after the commands before it)
//	append the batch on the head         (eventstore: writes nothing if the log's head is another)
//	  written -> move the head, cache the new states, answer every caller
//	  moved   -> catch up: apply the events after the head to the cached accounts; decide again
//	  taken   -> answer the commands whose key is stored with their first answer; decide the others again
//	  error   -> the outcome is unknown: empty the cache, forget the head, answer with the error
//
// There is no timer. Commands that arrive while a batch commits form the next batch (group commit): a batch of any size costs
// one round trip and one flush, and a lone command does not wait.
//
// # Why it is right
//
// An append succeeds only on the log's head, so every decision in it was made on the whole log: acceptances, refusals, dry runs
// and If-Match, on one account or several, and whether an id is new, a hold has ended or a movement has been reversed. An
// account.Index, to which the batch adds its own events, holds what is known of ids and movements across accounts. A refusal or a
// dry run appends no event, but the append still confirms the head. Decisions are never stale, so there are no conflicts to resolve.
//
// Loading stops at the head because the check does not cover events beyond it. A failover could lose such an event and leave the
// head in place, and the append would then succeed on a state that never existed. Snapshots are part of the log: about every
// hundredth event of an account carries the state after it in its metadata. So a snapshot cannot outlive its event.
//
// # Several instances
//
// Moved means that another instance was first. An instance that gets it twice for a batch takes the append lock and then reads,
// decides and appends in one transaction, which no other can overtake. It does so for as long as others keep appending. So every
// command is decided eventually, however many instances write.
//
// # Idempotency keys
//
// A key is stored with the first decision, in the transaction of its events. The answer of a success is rendered again from the
// events, which never change; the answer of a refusal is stored itself. A failure that is not a decision (an unavailable
// database, for example) stores no key. Neither does a dry run. The second occurrence of a key in one call replays the first.
//
// # Failures
//
// If the event at an instance's head is no longer in the log (a failover lost the tail), the instance empties its cache and
// starts again at the log's new head. If an account's events cannot be read, or those decided for it cannot be encoded, only the
// commands on it fail. A panic in the batcher ends the process, because commands would wait forever otherwise.
package command
