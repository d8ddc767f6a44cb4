// Package access is the access audit: records of who read what of whom, in a table apart from the log.
//
// A request asks Recorder.Begin whether it is recorded, and gives its record to Recorder.Add when it ends. Add appends to a buffer
// under a mutex; Run writes the buffer with COPY every FlushEvery. So a record is durable shortly after the response, not before it.
//
//	Begin ──► the request runs ──► Add ──► buffer ──every FlushEvery──► access_records
//	  └► ErrFull, if every request is recorded and the buffer is full
//
// Losses are bounded, and the table records them. Each run of an instance numbers its records without gaps, begins with a record
// started and ends with one stopped: a run without it was killed, and lost the records of at most its last flush, or of an outage of
// the table that it did not outlive. While the table cannot be written, the buffer fills. If every request is recorded, reads are then
// refused; with sampling, records are dropped. A record dropped tells how many, in either case.
//
// A batch whose outcome is unknown is sent again as it was: the primary key refuses it if it is there.
package access
