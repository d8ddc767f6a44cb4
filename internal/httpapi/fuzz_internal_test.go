package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"passbook/api"
)

// taken is what a reader of items makes of a body, in comparable form: the texts of the items, and in place of one that
// cannot be read its problem.
func taken(t *testing.T, items itemReader) (all []string) {
	t.Helper()
	for {
		raw, err := items.next()
		var p *problem
		switch {
		case errors.Is(err, io.EOF):
			return all
		case errors.As(err, &p):
			all = append(all, "problem "+p.body.Detail)
			if p.body.Status < 400 || p.body.Status > 499 {
				t.Fatalf("a problem with status %d", p.body.Status)
			}
			if !items.goesOn() {
				return all
			}
		case err != nil:
			t.Fatalf("a body that is whole cannot be read: %v", err)
		default:
			all = append(all, string(raw))
		}
	}
}

// FuzzItems takes any body of POST /commands, as lines or as an array: however it arrives, it is the same items; lines are
// what lies between line ends; an array has its elements; and each is a request or a client's fault.
func FuzzItems(f *testing.F) {
	const id = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"
	deposit := `{"command":"deposit","account_id":"` + id + `","amount":"1"}`
	for _, body := range []string{
		deposit, deposit + "\n" + deposit, "\n\r\n \n" + deposit + "\r\n", "[" + deposit + "," + deposit + "]", "[]", "[", "]", "[1,]", "{}", "null", "\x00\n\xff",
		`{"command":"open","owner":"A","currency":"EUR","if_version":1}`, `{"command":"close","account_id":"` + id + `","if_version":"3"}`,
		`[` + deposit + `] x`, `{"command":["deposit"]}`, strings.Repeat("[", 100), `{"command":"transfer","idempotency_key":7,"amount":1e9}`,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	sp, err := loadSpec(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	s := &server{spec: sp, kinds: newCommandKinds(sp)}
	r := httptest.NewRequest(http.MethodPost, "/commands", nil)
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, new(exchange)))
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		reader := func(r io.Reader) itemReader { return newArrayReader(r) }
		if lines {
			reader = func(r io.Reader) itemReader { return newLineReader(r) }
		}
		all := taken(t, reader(bytes.NewReader(body)))
		slowly := taken(t, reader(iotest.HalfReader(bytes.NewReader(body))))
		if strings.Join(all, "\x1e") != strings.Join(slowly, "\x1e") {
			t.Fatalf("%q is %q, and %q when it comes slowly", body, all, slowly)
		}
		if want := countItems(body, lines); want >= 0 && want != len(all) {
			t.Fatalf("%q is %q, and should be %d items", body, all, want)
		}
		for i, text := range all {
			if strings.HasPrefix(text, "problem ") {
				continue
			}
			it := s.readItem(r, []byte(text), "", i)
			var p *problem
			if it.problem == nil && (it.request.Command == nil || it.kind == nil) ||
				it.problem != nil && (!errors.As(it.problem, &p) || p.body.Status < 400 || p.body.Status > 499) {
				t.Fatalf("%q becomes %+v", text, it)
			}
		}
	})
}

// countItems is how many items a body has, or -1 when that cannot be said in advance.
func countItems(body []byte, lines bool) (n int) {
	if len(body) > maxBody {
		return -1
	}
	if lines {
		for line := range bytes.Lines(body) {
			if len(bytes.TrimSpace(line)) > 0 {
				n++
			}
		}
		return n
	}
	value := jsontext.Value(body)
	if !value.IsValid() || value.Kind() != jsontext.KindBeginArray {
		return -1
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	_, _ = d.ReadToken()
	for d.PeekKind() != jsontext.KindEndArray {
		if d.SkipValue() != nil {
			return -1
		}
		n++
	}
	return n
}

// FuzzPrefer takes any Prefer: a wait within the bounds, which does not depend on preferences that are not understood.
func FuzzPrefer(f *testing.F) {
	for _, header := range []string{"", "wait=3", `respond-async, Wait = "3";x=1`, "wait=99999999999999999999", "wait=-1", "wait", "wait=,wait=2", "wait=\x00"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		wait, given := preferredWait(header)
		if wait < 0 || wait > maxWait || wait%time.Second != 0 || !given && wait != defaultWait {
			t.Fatalf("%q: %v, %v", header, wait, given)
		}
		if again, alsoGiven := preferredWait("respond-async, handling=lenient," + header); again != wait || alsoGiven != given {
			t.Fatalf("%q: %v, %v, and after others %v, %v", header, wait, given, again, alsoGiven)
		}
	})
}

var (
	traceparents = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?$`)
	zeros        = regexp.MustCompile(`^0*$`)
	rfc3339      = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)
)

// FuzzTraceparent holds the reader of traceparent against the grammar of W3C Trace Context.
func FuzzTraceparent(f *testing.F) {
	for _, header := range []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "ff-", ""} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		want := ""
		if m := traceparents.FindStringSubmatch(header); m != nil && len(header) <= maxIDLen && m[1] != "ff" && (m[1] != "00" || m[4] == "") &&
			!zeros.MatchString(m[2]) && !zeros.MatchString(m[3]) {
			want = m[2]
		}
		if got := traceID(header); got != want {
			t.Fatalf("%q: %q, want %q", header, got, want)
		}
	})
}

// FuzzTime takes any time: what is taken has the form of RFC 3339, and means the same when it is written again.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"2026-01-02T15:04:05Z", "2026-01-02t15:04:05z", "2026-01-02T15:04:05.5+23:59", "2026-02-30T00:00:00Z", "2026-01-02T15:04:05,5Z", "2026-01-02T5:04:05Z", "2016-12-31T23:59:60.0000000001Z", "9999-12-31T23:59:60Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		moment, ok := parseTime(text)
		if !ok || moment.Year() > 9999 { // a leap second after the last year
			return
		}
		if again, ok := parseTime(moment.Format(time.RFC3339Nano)); !rfc3339.MatchString(text) || !ok || !again.Equal(moment) {
			t.Fatalf("%q is %v, and then %v", text, moment, again)
		}
	})
}
