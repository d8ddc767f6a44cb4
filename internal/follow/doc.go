// Package follow fills the log of a follower from a stream that a relay publishes (package relay). A follower is a Passbook whose
// log has no other writer: its projections, queries and feed work as on the primary, and it takes no commands.
//
// An event is stored only if it is the one that follows: its message has the next sequence, it names the id of the event before
// it, and the unique constraint of stream and version admits it. So the log is a copy of the primary's, up to its position, or the
// follower halts and says how it has to be made anew:
//
//   - The stream has another event at the follower's position, or one that follows another: the primary's log has gone back.
//   - The stream does not begin early enough: something has deleted its first messages.
//
// A stream that ends before the follower's position has lost its end, or was deleted. The relay publishes that again, so the
// follower waits until it can compare. Until then, and while NATS is unavailable, it serves what it has.
//
// Any number of instances may fill one log: each stores a batch under the append lock, on the head that it follows.
package follow
