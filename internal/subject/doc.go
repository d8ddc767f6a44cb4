// Package subject lets people be forgotten although the log is append-only: it encrypts the personal text of events under a key for
// each person, the subject, and destroys the key on request. DESIGN: docs/adr/0022-people-who-can-be-forgotten.md.
//
// # The parts
//
//	Codec   replaces personal text by a sealed box on the way into the log, and puts it back on the way out
//	Keys    the subjects' keys, in a database of their own, each wrapped by a master key (Wrapper)
//	Eraser  destroys a key, and sends EraseSubject to each of the subject's accounts
//
// # What it guarantees
//
//   - A key is durable before the first event that is sealed under it.
//   - Once Erase has returned, no instance opens a text of the subject: an instance uses a cached key for at most cacheWait after
//     reading the recent erasures, and Erase waits for that long after others can see that the key is gone.
//   - A destroyed key is distinguished from a missing one: the former opens to a marker ("erased": true and empty text), the latter
//     is an error, because a lost database of keys must not look like an erasure of everybody.
//   - Erase may be interrupted anywhere. The tombstone in the keys' database says that it has begun, and Run finishes it.
package subject
