// Package merkle makes the log prove itself: a Merkle tree over the events, whose hash is signed as the log grows, proofs of what is
// in the tree, and an audit that needs only a copy of the log and the public key.
//
// # What is signed
//
// The leaf of an event is a hash of everything that the log stores of it and of the leaf before ([AppendRecord]), so the leaves are a
// chain too. The tree is that of RFC 6962, as golang.org/x/mod/sumdb/tlog has it. A checkpoint is the name of the log, the number of
// events, and the hash of their tree, signed with Ed25519 (C2SP tlog-checkpoint). The tree depends on nothing but the events: the same
// log gives the same hash anywhere.
//
// # What is stored
//
// Every eighth level of the tree, 256 hashes a row (about 32 bytes an event), and the latest checkpoint. The checkpoint is the
// authority: hashes are used only after they were computed up to its hash, and it only after its signature was checked.
//
// # How it grows
//
// A Signer looks at the log once a second. It reads the events after the checkpoint, and the last signed one to check that it is
// still there, computes their leaves, and stores the new hashes and the new checkpoint in one transaction that changes the
// checkpoint's row only if it is still the one that it began with. So any number of instances may sign, and none has a lease:
//
//		          ┌─────────┐ another checkpoint is stored  ┌─────────────┐
//		          │ signing │ ────────────────────────────▶ │ standing by │
//		          └─────────┘ ◀──────────────────────────── └─────────────┘
//		               │        the checkpoint stays the
//		               │        same and the log grows
//		               │
//		               └──▶ halted: the log is not the one that was signed; checks again every few seconds
//
//	  - An instance that is killed leaves nothing that has to be cleaned up. Another one signs a few seconds later.
//	  - Two that sign at once compute the same hashes. One of them commits; the other finds another checkpoint and stands by.
//	  - A paused instance that wakes up finds another checkpoint, too.
//	  - If the last signed event is missing or different, or a position is, the signer halts and says where. The service continues.
//	  - If the whole database has gone back, its checkpoint and hashes have gone back with it. Only a checkpoint elsewhere tells: the
//	    signer compares the last one in its file, and halts.
//
// The decision is in docs/adr/0021-a-log-that-proves-itself.md; docs/audit.md says what each part proves, and what it does not.
package merkle
