// Package relay copies the log into a JetStream stream, one message for each event: the event at position N is the message with
// sequence N. Other programs, and followers (package follow), read the stream instead of the service. The stream is a copy and
// never the truth.
//
// Every batch is published with the sequence that its first message must follow, so the stream itself admits an event once and
// in its place, whoever publishes. There is no lease and no state besides the stream:
//
//		           the stream's last event is the log's
//		 ┌───────┐ ───────────────────────────────────▶ ┌────────────┐
//		 │ check │ ◀─────────────────────────────────── │ publishing │
//		 └───────┘   refused, or the outcome is unknown └────────────┘
//		  │  ▲  │
//		  │  │  │ the log has not got the stream's last event
//		  │  │  └──────────────────────────────▶ halted, checks again every few seconds
//		  │  │
//		  │  │ the log is ahead and the stream has not moved for a while
//		  │  └────────────── ┌────────────┐
//		  └────────────────▶ │ standing by│
//		    refused, and the └────────────┘
//		    stream has moved
//
//	  - A relay that is refused, and finds the stream beyond what it published, has met another relay. It stands by, and takes over
//	    when the stream stays behind the log. Two relays that publish at once are slow, never wrong.
//	  - A publish without an answer may be stored or not. The stream's last sequence says which.
//	  - A stream that lost its end, or was deleted, is behind: what it lacks is published again.
//	  - A stream whose last event is not in the log is of another history: the log has gone back, to a backup or to a standby that
//	    lacked its end. Consumers have seen events that did not happen, so nothing can be put right by publishing. The relay halts
//	    until an operator begins a new stream; the service continues.
//
// The decision is in docs/adr/0017-the-log-in-a-stream.md.
package relay
