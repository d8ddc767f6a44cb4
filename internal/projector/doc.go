// Package projector follows the event log and keeps read models up to date. It can rebuild a read model while the live one serves. It
// knows nothing of accounts.
//
// # What it guarantees
//
//   - What a batch of events does to a read model and the checkpoint are stored together. After any crash the read model
//     is exactly the fold of the events up to its checkpoint, without those of parked streams.
//   - No event is skipped and none is applied twice. A batch begins right after the checkpoint and has no gap.
//   - At most one instance applies a projection, its owner. When it dies, another takes over within 4/3 of Config.Lease. With
//     Projection.PerInstance each other instance follows, in a Store of its own.
//   - During a replay reads are served from one complete generation, and what they show never goes backwards.
//
// # Who is authoritative for what
//
// The log decides what has happened, and the database's clock whether a lease has run out. Everything else is three tables,
// which stateStore alone reads and writes:
//
//   - projections has a row for each projection: its status, the live generation and its checkpoint, the previous generation
//     and its checkpoint, and the lease. Taking the lease raises the epoch.
//   - projection_replays has a row for each replay and rollback, with the checkpoint of the generation it builds.
//   - projection_failures has a row for each parked stream of a generation.
//
// The lease is only there so that two instances do not compete. What makes a write safe is that it moves a checkpoint by
// compare-and-set on the epoch, the generation, the position and the event at that position, in the transaction that
// writes the rows. An owner that has stalled and was replaced finds the epoch changed, and its batch is rolled back.
//
// A read model in a Store has the checkpoint of each generation there, and the rows above follow it: the store is written
// first, and when an owner finds the two apart, it takes over what the store says. The epoch fences there too.
//
// A request, such as Pause or StartReplay, only changes a row and wakes the worker. So it may be made on any instance. The
// owner notices a pause with its next batch, Resume within Config.Poll, and StartReplay within Config.Poll or half a second,
// whichever is longer. An instance that follows notices a pause, Resume, and the flip that ends a replay within
// a third of Config.Lease.
//
// # The states of a projection
//
//	              Pause
//	   ┌──────────────────────────┐
//	   │                          ▼
//	running ◄──────────────── paused
//	   │  ▲       Resume          ▲
//	   │  │                       │ Pause
//	   │  │ the cause is gone     │
//	   ▼  │                       │
//	  halted ─────────────────────┘
//
// and of a replay. A rollback is a replay that starts from the previous generation and brings it up to date:
//
//	running ──► completed    its generation is live
//	   │
//	   ├──────► failed       an error that waiting does not cure: an event is missing, or a stream would be parked further back
//	   │                    than in the live generation
//	   │
//	   └──────► cancelled    CancelReplay
//
// Generations are numbered and never used again:
//
//	         StartReplay           flip                  next StartReplay
//	nothing ─────────────► built ───────► live ─► previous ─────────────► deleted
//	                                       ▲         │
//	                                       └─────────┘ Rollback
//
// # How each failure ends
//
//   - The database is unavailable: the worker waits and retries. Nothing is recorded.
//   - The process dies: the lease runs out, and the next owner continues from the checkpoint, and a running replay from its own.
//   - A handler fails: the event is retried a few times, and then its stream is parked. Other streams go on. The parked
//     stream is retried every Config.Retry, or when RetryFailure asks for it, and drained in order.
//   - Many streams fail, an event is unknown, or the log has a gap: the projection is halted, and retries by itself.
//   - The log lost its end, as in a failover: the projection is halted with ErrLogTruncated. A replay rebuilds it.
//   - A handler of a read model in a Store fails: the projection is halted, since its streams cannot be parked.
//   - A Store is unavailable: the call is retried until it succeeds, in a replay too. If the call was Apply or Flip of the live
//     generation, the projection is halted meanwhile; if it was Checkpoint, it is not.
//   - A Store has lost what it held: it is filled again from the beginning of the log.
//   - A replay fails: the live generation continues to serve.
//
// # How to read it
//
// The files are layers; calls go from the top down:
//
//	requests.go, engine.go            what the outside calls
//	lease.go                          take the lease, and work while holding it
//	live.go, replay.go, follow.go     what an owner does (apply the log, replay), and what another instance does
//	flip.go                           catch up, and make a generation live
//	parking.go, applier.go, batch.go  one generation: the next batch, parked streams, folding events
//	worker.go                         what the files above share for one projection
//	cleanup.go, state_*.go, state.go  the SQL
//	sums.go, definition.go, store.go  what a projection is, and where its read model is kept
//	types.go, config.go               what an Engine returns, and how it is configured
//	tailcache.go, prefetch.go, log.go reading the log
//	signal.go                         waking and waiting
//
// One replay from start to end: Engine.StartReplay inserts a row (stateStore.startReplay) and wakes worker.runReplays, which
// calls runReplay: applier.catchUp builds the generation, applier.retryAll retries its parked streams, and flip makes it live.
package projector
