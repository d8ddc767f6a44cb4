// Package follow fills the log of a follower from a stream that a relay publishes (package relay). A follower is a Passbook whose
// log has no other writer: its projections, queries and feed work as on the primary, and it takes no commands.
//
// A follower stores an event only if it is the next one: its message has the next sequence and names the id of the follower's last
// event, and the log has no other event with its stream and version. So the log is always a copy of the primary's up to its head.
// If it cannot be continued, the follower halts and says how to rebuild it:
//
//   - The stream has another event at the follower's position, or its next event follows another one: the primary's log has gone back.
//   - The stream begins after the event that the follower needs next: something has deleted its first messages.
//
// A stream that ends before the follower's position has lost its end, or was deleted. The relay publishes the missing events again,
// and the follower waits for them. Until then, and while NATS is unavailable, it serves what it has.
//
// Any number of instances may fill one log: each stores a batch under the append lock, and only if its first event follows the head.
package follow
