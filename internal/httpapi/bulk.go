package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

// RunCommands serves POST /commands.
func (s *server) RunCommands(w http.ResponseWriter, r *http.Request, params genapi.RunCommandsParams) {
	release, refused := s.bulks.take(r)
	if refused != nil {
		s.fail(w, r, refused)
		return
	}
	defer release()
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (mediaType != "application/x-ndjson" && mediaType != "application/json") {
		s.fail(w, r, newProblem(kindMediaType, "Content-Type must be application/x-ndjson or application/json."))
		return
	}
	key, err := request.IdempotencyKey(r.Header)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	memory := &reservation{memory: s.bulkMemory}
	defer memory.end()
	out := newStreamWriter(w, s.bulkLimits.PieceTimeout)
	defer out.end()
	if err := memory.waitFor(r.Context(), s.bulkLimits.Wait, bulkBase); err != nil {
		discard(out.conn, r.Body)
		s.fail(w, r, err)
		return
	}
	b := &bulk{server: s, r: r, w: w, out: out, conn: out.conn, mediaType: mediaType, key: key, memory: memory, atomic: params.Atomic, dryRun: params.DryRun}
	b.requestID = exchangeOf(r.Context()).requestID
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	b.body = newStreamReader(ctx, out.conn, r.Body, s.bulkLimits.PieceTimeout)
	if mediaType == "application/json" {
		b.items = request.NewArray(b.body, func() bool { return memory.try(2 * request.MaxSkipped) })
	} else {
		b.items = request.NewLines(b.body, b.body.begin)
	}
	if b.atomic {
		b.key = cmp.Or(b.key, request.KeyFromOtherItem)
		b.runAtomic(ctx)
		return
	}
	b.run(ctx, cancel)
}

// bulk is one POST /commands.
type bulk struct {
	server    *server
	r         *http.Request
	w         http.ResponseWriter
	out       *streamWriter
	conn      *http.ResponseController
	mediaType string
	key       string
	requestID string // in every problem among the results
	body      *streamReader
	items     request.Items
	memory    *reservation
	atomic    bool
	dryRun    bool
	// unread is the text of a command for which the last chunk had no memory.
	unread []byte
	named  int // field errors in the problems of this chunk, or of the whole atomic request
	read   int // commands read so far
	wrote  int // results written so far
}

// discard reads the rest of a body, within bounds. Without it, net/http resets the connection after refusing a large body, and a
// slow client may lose the response.
func discard(conn *http.ResponseController, body io.Reader) {
	const most, patience = 1 << 20, 5 * time.Second
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, body, most)
	_ = conn.SetReadDeadline(time.Time{})
}

// errIncomplete says that the request was cancelled before all of its results were written.
var errIncomplete = errors.New("httpapi: the request was cancelled before its last result")

// chunk is a group of commands that are decided together, with their results.
type chunk struct {
	items   []item
	results []command.Outcome // one per item; empty for an item with a problem
	held    int64             // bytes it holds of the request's reservation
	// err ends the request after this chunk: io.EOF, or why the body could not be read.
	err error
}

// run reads, decides and writes concurrently: while one chunk commits, it reads the next one and sends the results of the
// previous one. At most a few chunks are in memory; while the client does not take results, run stops reading.
func (b *bulk) run(ctx context.Context, cancel context.CancelFunc) {
	// Without this, HTTP/1.1 reads the whole body before it sends the first byte of the response.
	_ = b.conn.EnableFullDuplex()
	decoded, decided := make(chan *chunk, 1), make(chan *chunk, 1)
	var stages sync.WaitGroup
	stages.Go(func() { b.readChunks(ctx, decoded) })
	stages.Go(func() { b.decideChunks(ctx, decoded, decided) })
	err := b.writeChunks(decided)
	if err != nil {
		cancel()
		// This wakes a reader that still waits for the client. A complete response must not leave a deadline set: see streamReader.
		_ = b.conn.SetReadDeadline(time.Now())
	}
	stages.Wait()
	if err != nil {
		panic(http.ErrAbortHandler) // a truncated response must not look complete
	}
	if !b.items.CanContinue() {
		discard(b.conn, b.r.Body)
	}
}

func (b *bulk) readChunks(ctx context.Context, out chan<- *chunk) {
	defer close(out)
	for {
		c := b.readChunk(ctx)
		select {
		case out <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// readChunk reads until the chunk is full, no further command has arrived, or no memory is left.
func (b *bulk) readChunk(ctx context.Context) *chunk {
	c := new(chunk)
	if !b.atomic {
		b.named = 0
	}
	for bytes := 0; len(c.items) < chunkItems && bytes < chunkBytes; {
		raw, err := b.next()
		var p *request.Error
		switch {
		case err == nil:
			if ok, err := b.reserve(ctx, c, raw); err != nil {
				c.err = err
				return c
			} else if !ok {
				b.unread = raw
				return c
			}
			b.add(c, b.server.readItem(raw, b.key, b.read), commandCost+readingCost*int64(len(raw)))
		case errors.As(err, &p):
			b.add(c, item{problem: p}, 0)
			if !b.items.CanContinue() {
				err = io.EOF
			}
		}
		if err != nil && p == nil || errors.Is(err, io.EOF) {
			c.err = err
			return c
		}
		b.read++
		bytes += len(raw)
		if b.items.Waiting() {
			return c
		}
	}
	return c
}

// next returns the text of the next command: the unread one if there is one, else that of items.Next.
func (b *bulk) next() ([]byte, error) {
	if raw := b.unread; raw != nil {
		b.unread = nil
		return raw, nil
	}
	b.body.begin()
	return b.items.Next()
}

// reserve takes memory for reading a command. If the chunk already has commands, it does not wait: ok is then false. An atomic
// request must hold all its commands, so it keeps the memory it has while it waits, for a limited time.
func (b *bulk) reserve(ctx context.Context, c *chunk, raw []byte) (ok bool, err error) {
	n := commandCost + readingCost*int64(len(raw))
	switch {
	case b.memory.try(n):
		return true, nil
	case b.atomic || b.read == 0:
		err = b.memory.waitFor(ctx, b.server.bulkLimits.Wait, n)
	case len(c.items) > 0:
		return false, nil
	default:
		err = b.memory.wait(ctx, n)
	}
	return err == nil, err
}

// add adds a command to the chunk, and gives back what the command does not need of the memory reserved for reading it.
func (b *bulk) add(c *chunk, it item, reserved int64) {
	if p, bad := errors.AsType[*request.Error](it.problem); bad {
		b.named += nameAtMost(p, maxNamed-b.named)
	}
	cost := min(costOf(&it), reserved)
	if cost < reserved {
		b.memory.giveBack(reserved - cost)
	}
	c.held += cost
	c.items = append(c.items, it)
}

func (b *bulk) decideChunks(ctx context.Context, in <-chan *chunk, out chan<- *chunk) {
	defer close(out)
	for c := range in {
		b.decide(ctx, c)
		select {
		case out <- c:
		case <-ctx.Done():
			return
		}
	}
}

func (b *bulk) decide(ctx context.Context, c *chunk) {
	requests := make([]command.Request, 0, len(c.items))
	for i := range c.items {
		if c.items[i].problem == nil {
			requests = append(requests, requested(b.r, &c.items[i].command, b.dryRun))
		}
	}
	outcomes := b.server.commands.DoEach(ctx, requests)
	c.results = make([]command.Outcome, len(c.items))
	next := 0
	for i := range c.items {
		if c.items[i].problem == nil {
			c.results[i] = outcomes[next]
			next++
		}
	}
}

func (b *bulk) writeChunks(in <-chan *chunk) error {
	for c := range in {
		rest, err := b.render(c)
		if err != nil {
			return err
		}
		if c.err != nil {
			if !errors.Is(c.err, io.EOF) {
				if b.wrote > 0 {
					return c.err
				}
				b.refuse(unreadableBody(c.err))
				return nil
			}
			if b.onlyProblem(c) {
				b.refuse(c.items[0].problem)
				return nil
			}
			rest = b.appendEnd(rest)
		}
		if err := b.send(rest); err != nil || c.err != nil {
			return err
		}
		b.memory.giveBack(c.held)
	}
	return errIncomplete
}

// render renders the results of a chunk, sends every full piece, and returns the rest.
func (b *bulk) render(c *chunk) (buf []byte, err error) {
	for i := range c.items {
		if buf, err = b.append(buf, &c.items[i], c.results[i]); err != nil {
			return nil, err
		}
		if len(buf) >= resultPiece {
			if err := b.send(buf); err != nil {
				return nil, err
			}
			buf = buf[:0]
		}
	}
	return buf, nil
}

// resend says what to do after a body that was read in part.
const resend = "Commands before that may have been applied, unless it is atomic: send the whole again with the same Idempotency-Keys."

// unreadableBody returns the problem for a body that could not be read to its end.
func unreadableBody(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newProblem(kindUnreadableBody, "The body did not arrive in time. "+resend)
	}
	return newProblem(kindUnreadableBody, "The body ended too early. "+resend)
}

// refuse responds to the whole request with a problem before its body has been read to the end, and so closes the connection.
func (b *bulk) refuse(err error) {
	b.w.Header().Set("Connection", "close")
	_ = b.conn.SetReadDeadline(time.Now().Add(b.server.bulkLimits.PieceTimeout)) // net/http still reads a part of the body
	b.server.fail(b.w, b.r, err)
}

// onlyProblem reports whether a single problem is all there is: the body is no array of commands.
func (b *bulk) onlyProblem(c *chunk) bool {
	return b.read == 0 && len(c.items) == 1 && c.items[0].problem != nil
}

func (b *bulk) send(text []byte) error {
	b.w.Header()["Content-Type"] = []string{b.mediaType}
	if err := b.out.send(text); err != nil {
		return fmt.Errorf("httpapi: send results: %w", err)
	}
	return nil
}

// append adds the result of one command to the response: its receipt with a status, or its problem.
func (b *bulk) append(buf []byte, it *item, out command.Outcome) ([]byte, error) {
	err := it.problem
	if err == nil && out.Err != nil {
		err = &commandError{it.command.Source, out.Err}
	}
	if it.problem == nil && (err != nil || b.dryRun) {
		readingOf(b.r).decided(&command.Request{AccountID: it.command.AccountID, Command: it.command.Command}, out.Result.Events)
	}
	buf = b.appendSeparator(buf)
	b.wrote++
	if _, text, replayed := storedRefusal(err); replayed {
		buf = append(append(buf, `{"replayed":true,`...), text[1:]...) // without its brace
	} else if err != nil {
		_, text := problemText(b.server.explain(b.r, err), b.requestID)
		buf = append(buf, text...)
	} else {
		status, text, err := response(it.command.Kind, &out.Result, b.dryRun)
		if err != nil {
			return nil, err
		}
		buf = fmt.Appendf(buf, `{"status":%d,`, status)
		if out.Result.Replayed {
			buf = append(buf, `"replayed":true,`...)
		}
		buf = append(buf, text[1:]...) // without its brace
	}
	if b.mediaType != "application/json" {
		buf = append(buf, '\n')
	}
	return buf, nil
}

func (b *bulk) appendSeparator(buf []byte) []byte {
	switch {
	case b.mediaType != "application/json":
		return buf
	case b.wrote == 0:
		return append(buf, '[')
	default:
		return append(buf, ',')
	}
}

func (b *bulk) appendEnd(buf []byte) []byte {
	if b.mediaType != "application/json" {
		return buf
	}
	if b.wrote == 0 {
		buf = append(buf, '[')
	}
	return append(buf, ']')
}

// runAtomic reads all commands before it applies any. When one is refused, all others get the problem not-applied.
func (b *bulk) runAtomic(ctx context.Context) {
	c := new(chunk)
	for c.err == nil {
		next := b.readChunk(ctx)
		c.items, c.err = append(c.items, next.items...), next.err
		if len(c.items) > maxAtomic {
			b.refuse(newProblem(kindBodyTooLarge, fmt.Sprintf("An atomic request may have at most %d commands; send several, or leave out atomic=true.", maxAtomic)))
			return
		}
	}
	if !errors.Is(c.err, io.EOF) {
		b.refuse(unreadableBody(c.err))
		return
	}
	if b.onlyProblem(c) {
		b.refuse(c.items[0].problem)
		return
	}
	if err := b.decideAll(c); err != nil {
		b.server.fail(b.w, b.r, err)
		return
	}
	rest, err := b.render(c)
	if err == nil {
		err = b.send(b.appendEnd(rest))
	}
	if err != nil {
		panic(http.ErrAbortHandler) // a truncated response must not look complete
	}
	if !b.items.CanContinue() {
		discard(b.conn, b.r.Body)
	}
}

// decideAll applies all commands of a chunk or none. The error of a single command becomes its result; any other error is
// returned.
func (b *bulk) decideAll(c *chunk) error {
	c.results = make([]command.Outcome, len(c.items))
	requests := make([]command.Request, len(c.items))
	commands, bad := make([]*request.Command, len(c.items)), false
	for i := range c.items {
		commands[i] = &c.items[i].command
		bad = bad || c.items[i].problem != nil
	}
	request.CompleteKeys(commands)
	for i := range commands {
		requests[i] = requested(b.r, commands[i], b.dryRun)
	}
	var (
		results []command.Result
		err     error
		refused *command.ItemError
	)
	if !bad && len(requests) > 0 {
		results, err = b.server.commands.DoAll(b.r.Context(), requests)
	}
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if first, ok := errors.AsType[*command.RefusedBeforeError](err); ok {
		b.requestID = requestIDOf(first.Answer) // so that all results repeat those of the first request
	}
	for i := range c.items {
		switch {
		case c.items[i].problem != nil:
		case refused != nil && refused.Index == i:
			c.results[i].Err = refused.Err
		case bad || refused != nil:
			c.results[i].Err = newProblem(kindNotApplied, "Nothing was applied, because another command of the batch was refused; correct that one, or leave it out.")
		default:
			c.results[i].Result = results[i]
		}
	}
	return nil
}
