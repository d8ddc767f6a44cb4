package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"testing"

	"passbook/internal/httpapi/request"
)

// FuzzLastEventID tries any Last-Event-ID: the stream begins there, or the error names the header.
func FuzzLastEventID(f *testing.F) {
	for _, id := range []string{"", "0", "1", "-1", "01", "+1", "9223372036854775807", "9223372036854775808", "1\x00", "é", "１"} {
		f.Add(id, "")
		f.Add(id, "after=7")
	}
	f.Fuzz(func(t *testing.T, id, query string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header["Last-Event-Id"] = []string{id}
		got, err := streamStart(r, 7)
		position, notNumber := strconv.ParseInt(id, 10, 64)
		var p *request.Error
		switch {
		case id == "":
			if want := map[bool]int64{true: 7, false: -1}[r.URL.Query().Has("after")]; got != want || err != nil {
				t.Errorf("without an id and with %q: %d, %v", query, got, err)
			}
		case notNumber == nil && position >= 0 && strconv.FormatInt(position, 10) == id:
			if got != position || err != nil {
				t.Errorf("%q: %d, %v", id, got, err)
			}
		case !errors.As(err, &p) || p.Reason != request.InvalidHeader || p.Fields[0].Header != "Last-Event-ID":
			t.Errorf("%q: %d, %v", id, got, err)
		}
	})
}
