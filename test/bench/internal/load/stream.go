package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// stream posts streams of deposits as NDJSON over one connection, and reads the results while it writes.
type stream struct {
	tally
	addr  string
	lines int
	pick  *picker
	key   *key
	keyed bool

	body  []byte
	keyAt []int // where the keys are in body
}

// errRefused means that the server refused the whole stream; FirstError has its response.
var errRefused = errors.New("the stream was refused")

func (s *stream) run(ctx context.Context, _, deadline time.Time) {
	s.build()
	var (
		tcp net.Conn
		in  *bufio.Reader
	)
	defer func() {
		if tcp != nil {
			_ = tcp.Close()
		}
	}()
	for failures := 0; failures < maxFailures && ctx.Err() == nil && time.Now().Before(deadline); {
		if tcp == nil {
			var err error
			if tcp, err = new(net.Dialer).DialContext(ctx, "tcp", s.addr); err != nil {
				s.fail(err)
				failures++
				continue
			}
			_ = tcp.SetDeadline(deadline.Add(grace))
			in = bufio.NewReaderSize(tcp, 64<<10)
		}
		began := time.Now()
		if err := s.once(tcp, in, deadline); err != nil {
			_ = tcp.Close()
			tcp = nil
			if s.unavailable != 0 {
				return
			}
			s.fail(err)
			failures++
			continue
		}
		s.latency.Add(time.Since(began))
		failures = 0
	}
}

// build makes the body once; only the keys are new in each stream.
func (s *stream) build() {
	for range s.lines {
		s.body = append(s.body, `{"command":"deposit","account_id":"`...)
		s.body = append(s.body, s.pick.next()...)
		s.body = append(s.body, `","amount":"1.00"`...)
		if s.keyed {
			s.body = append(s.body, `,"idempotency_key":"`...)
			s.keyAt = append(s.keyAt, len(s.body))
			s.body = append(append(s.body, blank(keyLen)...), '"')
		}
		s.body = append(s.body, "}\n"...)
	}
}

// once sends one stream. It reads in this goroutine and writes in another, which ends at the latest when the
// connection is closed.
func (s *stream) once(tcp net.Conn, in *bufio.Reader, deadline time.Time) error {
	for _, at := range s.keyAt {
		s.key.next(s.body[at : at+keyLen])
	}
	header := "POST /commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" +
		"Accept: application/x-ndjson\r\nContent-Length: " + strconv.Itoa(len(s.body)) + "\r\n\r\n"
	written := make(chan error, 1)
	go func() {
		_, err := (&net.Buffers{[]byte(header), s.body}).WriteTo(tcp)
		written <- err
	}()
	err := s.results(in, deadline)
	if err != nil {
		_ = tcp.Close()
	}
	return errors.Join(err, <-written)
}

// results reads the response and counts the items that arrived before the deadline and were accepted.
func (s *stream) results(in *bufio.Reader, deadline time.Time) error {
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed {
			s.unavailable = response.StatusCode
		}
		text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		return fmt.Errorf("%w: status %d: %s", errRefused, response.StatusCode, text)
	}
	lines := bufio.NewReaderSize(response.Body, 64<<10)
	position := []byte(`"position":`)
	items := 0
	inWindow := true
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 1 {
			if items++; items%32 == 1 {
				inWindow = time.Now().Before(deadline)
			}
			switch {
			case !bytes.Contains(line, position):
				s.fail(fmt.Errorf("item refused: %s", line[:min(len(line), 200)]))
			case inWindow:
				s.requests++
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if items != s.lines {
		return fmt.Errorf("%d results for %d items", items, s.lines)
	}
	return nil
}
