package request

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// BufferSize is the size of the read buffer of a body of POST /commands; a line of maxBody fits.
	BufferSize = maxBody + 64<<10
	// MaxSkipped is the size of the largest array element that can be skipped; a larger one ends the array.
	MaxSkipped = 512 << 10
	// readAhead is how much of the following elements may be read together with one.
	readAhead = 8 << 10
)

// Items reads the commands in the body of POST /commands, one at a time.
type Items interface {
	// Next returns the text of the next command, valid until the following call; io.EOF at the end; an *Error for a command that
	// cannot be read; any other error if the rest of the body cannot be read.
	Next() ([]byte, error)
	// Waiting reports whether Next would have to wait for the client to send more.
	Waiting() bool
	// CanContinue reports whether the commands after a bad one can still be read.
	CanContinue() bool
}

type lineReader struct {
	buf   *bufio.Reader
	empty func() // called for each empty line
}

// NewLines reads application/x-ndjson. It skips empty lines, and calls empty for each.
func NewLines(r io.Reader, empty func()) Items {
	return &lineReader{bufio.NewReaderSize(r, BufferSize), empty}
}

// Waiting is also true when a part of a line has arrived: the lines before it need not wait for the rest.
func (l *lineReader) Waiting() bool {
	arrived, _ := l.buf.Peek(l.buf.Buffered())
	return bytes.IndexByte(arrived, '\n') < 0
}

func (l *lineReader) CanContinue() bool { return true }

func (l *lineReader) Next() ([]byte, error) {
	for {
		line, err := l.buf.ReadSlice('\n')
		tooLong := len(line) > maxBody
		for errors.Is(err, bufio.ErrBufferFull) {
			tooLong = true
			_, err = l.buf.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if tooLong {
			return nil, tooLarge()
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, io.EOF
		}
		l.empty()
	}
}

// arrayReader reads one array. After a syntax error the rest of it cannot be read.
type arrayReader struct {
	source *elementSource
	json   *jsontext.Decoder
	began  bool
	broken bool
}

// NewArray reads application/json: one array of commands. The first element that exceeds maxBody calls grow, once. If grow
// returns true, which says that there is enough memory, that element and later large ones are skipped, up to MaxSkipped.
func NewArray(r io.Reader, grow func() bool) Items {
	source := &elementSource{r: bufio.NewReaderSize(r, BufferSize), most: maxBody + readAhead, grow: grow}
	return &arrayReader{source: source, json: jsontext.NewDecoder(source)}
}

func (a *arrayReader) Waiting() bool {
	return len(a.json.UnreadBuffer()) == 0 && a.source.r.Buffered() == 0
}

func (a *arrayReader) CanContinue() bool { return !a.broken }

func (a *arrayReader) Next() ([]byte, error) {
	a.source.left = a.source.most
	if !a.began {
		if kind := a.json.PeekKind(); kind != jsontext.KindBeginArray && kind != jsontext.KindInvalid {
			a.broken = true
			return nil, newError(InvalidJSON, "The body must be a JSON array of commands.")
		}
		if _, err := a.json.ReadToken(); err != nil {
			return nil, a.fail(err)
		}
		a.began = true
	}
	if a.json.PeekKind() == jsontext.KindEndArray {
		if _, err := a.json.ReadToken(); err != nil {
			return nil, a.fail(err)
		}
		if _, err := a.json.ReadToken(); !errors.Is(err, io.EOF) {
			return nil, a.fail(errTrailing)
		}
		return nil, io.EOF
	}
	item, err := a.json.ReadValue()
	if err != nil {
		return nil, a.fail(err)
	}
	if len(item) > maxBody {
		return nil, tooLarge()
	}
	return item, nil
}

func (a *arrayReader) fail(err error) error {
	a.broken = true
	if errors.Is(err, errElementTooLarge) {
		return tooLarge()
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) || errors.Is(err, errTrailing) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return syntaxProblem(err, "")
	}
	return err
}

// elementSource is a reader that fails when one element of the array is too large.
type elementSource struct {
	r          *bufio.Reader
	left, most int
	grow       func() bool // nil once called
}

var errElementTooLarge = errors.New("the command is too large")

func (e *elementSource) Read(p []byte) (int, error) {
	if e.left <= 0 && e.grow != nil {
		if e.grow() {
			e.left, e.most = MaxSkipped-e.most, MaxSkipped
		}
		e.grow = nil
	}
	if e.left <= 0 {
		return 0, errElementTooLarge
	}
	n, err := e.r.Read(p[:min(len(p), e.left, 4<<10)])
	e.left -= n
	return n, err
}
