package request

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"

	"passbook/api"
)

// taken returns what a reader of items reads from a body, in comparable form: the text of each item, or its error.
func taken(t *testing.T, items Items) (all []string) {
	t.Helper()
	for {
		raw, err := items.Next()
		var bad *Error
		switch {
		case errors.Is(err, io.EOF):
			return all
		case errors.As(err, &bad):
			all = append(all, "error "+bad.Detail)
			if !items.CanContinue() {
				return all
			}
		case err != nil:
			t.Fatalf("a body that is whole cannot be read: %v", err)
		default:
			all = append(all, string(raw))
		}
	}
}

// FuzzItems tries any body of POST /commands, as lines or as an array: the items do not depend on how it arrives; there is one
// for each line or element; and each is a request or a client error.
func FuzzItems(f *testing.F) {
	const id = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"
	deposit := `{"command":"deposit","account_id":"` + id + `","amount":"1"}`
	for _, body := range []string{
		deposit, deposit + "\n" + deposit, "\n\r\n \n" + deposit + "\r\n", "[" + deposit + "," + deposit + "]", "[]", "[", "]", "[1,]", "{}", "null", "\x00\n\xff",
		`{"command":"open","owner":"A","currency":"EUR","if_version":1}`, `{"command":"close","account_id":"` + id + `","if_version":"3"}`,
		`[` + deposit + `] x`, `{"command":["deposit"]}`, strings.Repeat("[", 100), `{"command":"transfer","idempotency_key":7,"amount":1e9}`,
		`{"command":"change","account_id":"` + id + `","owner":"A","overdraft_limit":"1","metadata":{"a":null,"b":"c","":"\u0000"}}`,
		`{"command":"change","account_id":"` + id + `","metadata":null}`, `{"command":"reverse","position":7,"amount":1,"force":true}`,
		`{"command":"hold","account_id":"` + id + `","amount":1,"expires_at":"9999-12-31T23:59:60-01:00","hold_id":"` + id + `","metadata":{"k":"v"}}`,
		`{"command":"capture","account_id":"` + id + `","hold_id":"` + id + `","to_account_id":"x"}`, `{"command":"reverse","position":1e400}`,
		`{"command":"release","hold_id":"` + id + `","reason":""}`, `{"command":"open","initial_deposit":-1,"metadata":[{"amount":1}]}`,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	sp, err := Load(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, lines bool) {
		reader := func(r io.Reader) Items { return NewArray(r, func() bool { return true }) }
		if lines {
			reader = func(r io.Reader) Items { return NewLines(r, func() {}) }
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
			if strings.HasPrefix(text, "error ") {
				continue
			}
			c, err := sp.ReadItem([]byte(text), "", i)
			var bad *Error
			if err == nil && (c.Command == nil || c.Kind == nil) || err != nil && !errors.As(err, &bad) {
				t.Fatalf("%q becomes %+v, %v", text, c, err)
			}
		}
	})
}

// countItems returns how many items a body has, or -1 if that is not known in advance.
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
