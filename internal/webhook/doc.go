// Package webhook sends the events of the log to subscribers over HTTP, signed as Standard Webhooks says
// (https://www.standardwebhooks.com).
//
// What it guarantees, for each subscription:
//
//   - Every event that its filter takes is delivered at least once, and none before those that come before it in the log. An
//     event is sent until the receiver returns a status of 2xx; only then is the next one sent.
//   - What a receiver gets twice has the same webhook-id, the event's id.
//   - A replay of a projection sends nothing: the cursor is the subscription's own.
//   - Only public addresses are called, unless the operator allows others.
//
// The cursor is in the row of the subscription. One instance delivers a subscription, under a lease on the database's clock; an
// instance that dies loses the lease, and another goes on from the cursor. The lease is only liveness. Safety is the
// compare-and-set that moves the cursor, on its position and on the row's epoch: taking the lease raises the epoch, and so does
// every change by an operator. An instance that has lost the lease, stalled or was told to stop can at most send once more the
// event that it was sending; it cannot move the cursor.
//
//	          fails for a day, or the log has gone back        410 Gone
//	parked <──────────────────────────────────────── active ───────────> disabled
//	   │                                              │ ↑                    │
//	   │                                        pause │ │ resume             │
//	   │                                              ↓ │                    │
//	   └──────────── resume ──────────> active      paused      active <─ resume
//
// Read on in service.go (what the API asks for), dispatcher.go (which instance delivers what), worker.go (one subscription),
// sender.go (one attempt), address.go (which addresses may be called), store.go (the SQL).
package webhook
