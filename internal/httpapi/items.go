package httpapi

import (
	"bufio"
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/command"
	"passbook/internal/httpapi/genapi"
)

// Bounds of POST /commands. They bound memory; the body itself may be of any length.
const (
	// A chunk is what is decided together: so many commands, or so many bytes of them.
	chunkItems = 1000
	chunkBytes = 1 << 20
	// maxAtomic is how many commands may be all or nothing.
	maxAtomic = 1000
	// lineBuffer holds the part of the body that is looked at; a command must fit in maxBody of it.
	lineBuffer = 256 << 10
)

// itemReader takes the commands out of a body, one at a time.
type itemReader interface {
	// next returns the text of the next command, valid until the call after; io.EOF at the end; a *problem for a command
	// that cannot be read; any other error when the body cannot be read any further.
	next() ([]byte, error)
	// waiting tells whether next would have to wait for the caller to send more.
	waiting() bool
	// goesOn tells whether the commands after one with a problem can still be read.
	goesOn() bool
}

// lineReader reads application/x-ndjson.
type lineReader struct{ buf *bufio.Reader }

func newLineReader(r io.Reader) *lineReader { return &lineReader{bufio.NewReaderSize(r, lineBuffer)} }

func (l *lineReader) waiting() bool { return l.buf.Buffered() == 0 }

func (l *lineReader) goesOn() bool { return true }

func (l *lineReader) next() ([]byte, error) {
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
	}
}

// arrayReader reads application/json: one array. Once its syntax is broken nothing more can be told of it.
type arrayReader struct {
	source *budget
	json   *jsontext.Decoder
	began  bool
	broken bool
}

func newArrayReader(r io.Reader) *arrayReader {
	source := &budget{r: bufio.NewReaderSize(r, lineBuffer)}
	return &arrayReader{source: source, json: jsontext.NewDecoder(source)}
}

func (a *arrayReader) waiting() bool {
	return len(a.json.UnreadBuffer()) == 0 && a.source.r.Buffered() == 0
}

func (a *arrayReader) goesOn() bool { return !a.broken }

func (a *arrayReader) next() ([]byte, error) {
	a.source.left = 2 * lineBuffer
	if !a.began {
		if kind := a.json.PeekKind(); kind != jsontext.KindBeginArray && kind != jsontext.KindInvalid {
			a.broken = true
			return nil, newProblem(kindInvalidJSON, "The body must be a JSON array of commands.")
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
	if errors.Is(err, errOverBudget) {
		return tooLarge()
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) || errors.Is(err, errTrailing) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return syntaxProblem(err, "")
	}
	return err
}

// budget is a reader that refuses to go on when one element of the array takes too much.
type budget struct {
	r    *bufio.Reader
	left int
}

var errOverBudget = errors.New("the command is too large")

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errOverBudget
	}
	n, err := b.r.Read(p[:min(len(p), b.left, 4<<10)])
	b.left -= n
	return n, err
}

// item is one command of a bulk request: a request to carry out, or the problem that it is instead.
type item struct {
	request command.Request
	kind    *commandKind
	problem error
}

// plainItem is readItem for a plain deposit or withdrawal.
func (s *server) plainItem(r *http.Request, m *plainMovement, headerKey string, index int) (item, bool) {
	k := s.kinds[string(m.command)]
	if k == nil || m.key != nil && !visibleASCII(string(m.key), maxKeyLen) {
		return item{}, false
	}
	id, c, ok := m.build(k.name)
	if !ok {
		return item{}, false
	}
	request := command.Request{AccountID: id, Command: c, Metadata: metadata(r)}
	switch {
	case m.key != nil:
		request.Key = newKey(r, string(m.key), itemOperation, m.canonical())
	case headerKey != "":
		request.Key = newKey(r, headerKey+"\x00"+strconv.Itoa(index), itemOperation, m.canonical())
	}
	return item{request: request, kind: k}, true
}

const itemOperation = "POST\x00/commands"

// readItem makes a request of the text of one command. headerKey is the Idempotency-Key of the whole, or "": each
// command then has a key made of it and of its place.
func (s *server) readItem(r *http.Request, raw []byte, headerKey string, index int) item {
	if m, plain := readPlainMovement(raw, true); plain {
		if it, ok := s.plainItem(r, &m, headerKey, index); ok {
			return it
		}
	}
	return s.readGeneralItem(r, raw, headerKey, index)
}

func (s *server) readGeneralItem(r *http.Request, raw []byte, headerKey string, index int) item {
	value, err := decodeJSON(raw)
	if err != nil {
		return item{problem: err}
	}
	members, ok := value.(map[string]any)
	if !ok {
		return item{problem: newProblem(kindInvalidBody, "A command must be a JSON object.")}
	}
	name, _ := members["command"].(string)
	k := s.kinds[name]
	if k == nil {
		return item{problem: newProblem(kindInvalidBody, "command must be one of open, deposit, withdraw, transfer, suspend, reactivate and close.",
			genapi.FieldError{Pointer: "/command", Code: "unknown-command", Detail: "command must be the name of a command"})}
	}
	request := command.Request{Metadata: metadata(r)}
	var refused []finding
	key, given := members["idempotency_key"]
	delete(members, "idempotency_key")
	text, isText := key.(string)
	switch {
	case given && (!isText || !visibleASCII(text, maxKeyLen)):
		refused = append(refused, finding{path: []string{"idempotency_key"}, code: "malformed", sentence: "must be 1 to 255 visible ASCII characters"})
	case given:
		request.Key = newKey(r, text, itemOperation, appendCanonical(nil, "", members))
	case headerKey != "":
		request.Key = newKey(r, headerKey+"\x00"+strconv.Itoa(index), itemOperation, appendCanonical(nil, "", members))
	}
	if version, given := members["if_version"]; given {
		literal, isNumber := version.(stdjson.Number)
		n, err := strconv.ParseInt(string(literal), 10, 64)
		if !isNumber || err != nil || n < 0 || k.opens {
			refused = append(refused, finding{path: []string{"if_version"}, code: "malformed", sentence: "must be the version of an account that is open"})
		}
		request.IfVersions = []int64{n}
	}
	delete(members, "command")
	delete(members, "if_version")
	f := newForm(members, k.item)
	for _, found := range refused {
		f.add(found)
	}
	request.AccountID, request.Command = k.build(f, [16]byte{})
	if err := f.err(); err != nil {
		return item{problem: err}
	}
	return item{request: request, kind: k}
}
