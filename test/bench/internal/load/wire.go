package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"
)

// maxAnswer bounds a response, header and body together, in bytes.
const maxAnswer = 16 << 10

var (
	errTooLong   = errors.New("the answer is longer than the buffer")
	errShort     = errors.New("the request was not taken in one write")
	errMalformed = errors.New("the answer is not HTTP/1.1 with a Content-Length")
)

// conn is a keep-alive connection with one request in flight.
type conn struct {
	tcp     net.Conn
	raw     syscall.RawConn
	step    func(fd uintptr) bool // advance, bound once so that a request allocates nothing
	request []byte
	sent    bool
	in      [maxAnswer]byte
	have    int
	answer  answer
	err     error
}

// dial connects; reads that are not done at the deadline fail.
func dial(ctx context.Context, addr string, deadline time.Time) (*conn, error) {
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{tcp: tcp}
	c.step = c.advance
	if err := tcp.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	if c.raw, err = tcp.(*net.TCPConn).SyscallConn(); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return c, nil
}

func (c *conn) close() { _ = c.tcp.Close() }

// exchange sends a request and returns its response, which is valid until the next exchange.
//
// The request is written from within the wait for its answer: the runtime's poller then knows that the connection is
// waited for before the answer can come, and the read that would only find nothing yet is saved.
func (c *conn) exchange(request []byte) (*answer, error) {
	c.request, c.sent, c.have, c.err = request, false, 0, nil
	if err := c.raw.Read(c.step); err != nil {
		return nil, err
	}
	return &c.answer, c.err
}

// advance is called at once, and then each time there is something to read, until it returns true.
func (c *conn) advance(fd uintptr) bool {
	if !c.sent {
		c.sent = true
		n, err := syscall.Write(int(fd), c.request)
		if err == nil && n < len(c.request) {
			err = errShort
		}
		c.err = err
		return err != nil
	}
	n, err := syscall.Read(int(fd), c.in[c.have:])
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return false
	case err != nil:
		c.err = err
		return true
	case n == 0:
		c.err = io.ErrUnexpectedEOF
		return true
	}
	c.have += n
	whole, err := c.answer.parse(c.in[:c.have])
	if err == nil && !whole && c.have == len(c.in) {
		err = errTooLong
	}
	c.err = err
	return whole || err != nil
}

// answer is a parsed HTTP response.
type answer struct {
	status int
	body   []byte
	closes bool // the server is going to close the connection
}

var (
	headerEnd     = []byte("\r\n\r\n")
	lineEnd       = []byte("\r\n")
	contentLength = []byte("content-length")
	connection    = []byte("connection")
	closing       = []byte("close")
)

// parse parses what has arrived of a response, and reports whether it is complete. Bodies without a length (chunked) are an
// error: no response to the load generator is that long.
func (a *answer) parse(in []byte) (whole bool, err error) {
	head, rest, ended := bytes.Cut(in, headerEnd)
	if !ended {
		return false, nil
	}
	line, header, _ := bytes.Cut(head, lineEnd)
	if len(line) < len("HTTP/1.1 200") || string(line[:9]) != "HTTP/1.1 " {
		return false, errMalformed
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return false, errMalformed
	}
	a.closes = false
	length := -1
	for len(header) > 0 {
		line, header, _ = bytes.Cut(header, lineEnd)
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case len(name) == len(contentLength) && bytes.EqualFold(name, contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return false, errMalformed
			}
		case len(name) == len(connection) && bytes.EqualFold(name, connection):
			a.closes = bytes.EqualFold(bytes.TrimSpace(value), closing)
		}
	}
	if a.status == 204 || a.status == 304 {
		length = 0
	}
	if length < 0 {
		return false, errMalformed
	}
	if len(rest) > length {
		return false, fmt.Errorf("%w: %d bytes after its end", errMalformed, len(rest)-length)
	}
	a.body = rest
	return len(rest) == length, nil
}
