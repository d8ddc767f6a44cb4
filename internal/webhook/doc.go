// Package webhook sends the events of the log to subscribers over HTTP, signed as Standard Webhooks specifies
// (https://www.standardwebhooks.com).
//
// What it guarantees, for each subscription:
//
//   - Every event that its filter selects is delivered at least once, in the order of the log. An event is sent until the receiver
//     returns a status of 2xx; only then is the next one sent.
//   - An event that is sent again has the same webhook-id, which is the event's id.
//   - A replay of a projection sends nothing: the cursor is the subscription's own.
//   - Only public addresses are called, unless the operator allows others.
//
// The cursor is in the row of the subscription. One instance delivers a subscription, under a lease on the database's clock; an
// instance that dies loses the lease, and another continues from the cursor. The lease only keeps instances from competing. What
// makes delivery safe is the compare-and-set that moves the cursor, on its position and on the row's epoch: taking the lease raises
// the epoch, and so does every change by an operator. An instance that has lost the lease, stalled or was told to stop can at most
// send the event that it was sending once more; it cannot move the cursor.
//
//	          fails for a day, or the log has gone back        410 Gone
//	parked <──────────────────────────────────────── active ───────────> disabled
//	   │                                              │ ↑                    │
//	   │                                        pause │ │ resume             │
//	   │                                              ↓ │                    │
//	   └──────────── resume ──────────> active      paused      active <─ resume
//
// The files, from the top down: service.go (what the API calls), dispatcher.go (which instance delivers what), worker.go (one
// subscription), sender.go (one attempt), address.go (which addresses may be called), store.go (the SQL).
package webhook
