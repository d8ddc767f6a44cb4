package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi"
)

// TestBulkInPieces sends commands piece by piece. A body that keeps arriving is read however long it takes; one that stops, or a
// command that never ends, is refused.
func TestBulkInPieces(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	lineEnds, line, array := deposit1+"\n", "application/x-ndjson", "application/json"
	for name, test := range map[string]struct {
		mediaType, query string
		pieces           []string      // of the body, sent one after another
		every            time.Duration // between them
		served           bool          // else refused
	}{
		"a line":              {line, "", []string{lineEnds[:20], lineEnds[20:40], lineEnds[40:60], lineEnds[60:]}, timeout / 2, true},
		"an atomic line":      {line, "?atomic=true", []string{lineEnds[:20], lineEnds[20:40], lineEnds[40:60], lineEnds[60:]}, timeout / 2, true},
		"an array":            {array, "", []string{"[" + deposit1[:20], deposit1[20:40], deposit1[40:], "]"}, timeout / 2, true},
		"empty lines":         {line, "", append(each(strings.Repeat("\n", 22)), lineEnds), timeout / 2, true},
		"many lines":          {line, "", []string{lineEnds, lineEnds[:9], lineEnds[9:] + lineEnds, lineEnds}, timeout / 2, true},
		"a line that stops":   {line, "", []string{lineEnds[:20], lineEnds[20:]}, 4 * timeout, false},
		"an array that stops": {array, "", []string{"[" + deposit1[:20], deposit1[20:]}, 4 * timeout, false},
		"one without end":     {line, "", each(strings.Repeat("x", 100)), timeout / 5, false},
		"no end, atomic":      {line, "?atomic=true", each(strings.Repeat("x", 100)), timeout / 5, false},
		"no end, array":       {array, "", each("[" + strings.Repeat(" ", 100)), timeout / 5, false},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				t.Parallel()
				a := serve(t, &service{bulk: httpapi.BulkLimits{PieceTimeout: timeout}})
				server := httptest.NewUnstartedServer(a.handler)
				server.EnableHTTP2 = protocol == "HTTP/2.0"
				server.Config.ReadTimeout = timeout
				server.StartTLS()
				defer server.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				body, feed := io.Pipe()
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/commands"+test.query, body)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", test.mediaType)
				sent := make(chan int, 1) // how many pieces were read
				go func() {
					n := 0
					for _, piece := range test.pieces {
						if _, err := io.WriteString(feed, piece); err != nil {
							break
						}
						n++
						<-time.After(test.every)
					}
					_ = feed.Close()
					sent <- n
				}()
				response, err := server.Client().Do(request)
				text := ""
				if err == nil {
					var raw []byte
					raw, err = io.ReadAll(response.Body)
					text = string(raw)
					_ = response.Body.Close()
					if response.Proto != protocol {
						t.Fatal(response.Proto)
					}
				}
				_ = body.Close() // unblocks the sender
				whole := err == nil && response.StatusCode == http.StatusOK && !strings.Contains(text, `"code"`) &&
					strings.Count(text, `"status":201`) == strings.Count(strings.Join(test.pieces, ""), "account_id")
				if whole != test.served {
					t.Errorf("%v %v", err, text)
				}
				if n := <-sent; !test.served && n == len(test.pieces) && n > 2 {
					t.Error("it was never refused")
				}
			})
		}
	}
}

// each returns the characters of a text one by one.
func each(text string) []string { return strings.Split(text, "") }
