// Package relay copies the log into a JetStream stream, one message for each event: the event at position N is the message with
// sequence N. Other programs, and followers (package follow), read the stream instead of the service. The stream is only a copy: the
// log is authoritative.
//
// Every batch is published with the sequence that its first message must follow. So the stream accepts each event only once and at
// its position, whichever relay publishes it. While the stream stores a batch, the next one is sent, but not committed. There is no lease, and no state besides the stream:
//
//		           the stream's last event is the log's
//		 ┌───────┐ ───────────────────────────────────▶ ┌────────────┐
//		 │ check │ ◀─────────────────────────────────── │ publishing │
//		 └───────┘   refused, or the outcome is unknown └────────────┘
//		  │  ▲  │
//		  │  │  │ the log does not have the stream's last event
//		  │  │  └──────────────────────────────▶ halted, checks again every few seconds
//		  │  │
//		  │  │ the log is ahead and the stream has not moved for a while
//		  │  └────────────── ┌────────────┐
//		  └────────────────▶ │ standing by│
//		    refused, and the └────────────┘
//		    stream has moved
//
//	  - If a batch is refused and the stream ends after what this relay knows of it, another relay publishes. This one stands by, and
//	    takes over when the stream stays behind the log. Two relays that publish at once are slow, but never wrong.
//	  - A batch whose publish got no answer may have been stored. The stream's last sequence tells.
//	  - A stream that lost its end, or was deleted, is behind the log: the relay publishes again what is missing.
//	  - If the stream's last event is not in the log, the log has gone back, to a backup or to a standby that lacked its end.
//	    Consumers have seen events that the log no longer has, and publishing cannot put that right. The relay halts until an
//	    operator begins a new stream; the service continues.
//
// The decision is in docs/adr/0017-the-log-in-a-stream.md.
package relay
