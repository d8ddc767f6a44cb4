package httpapi_test

import (
	"io"
	"net/http"
	"testing"
)

// openFor opens a long request with a key, and returns its status and a function that ends it.
func (a *harness) openFor(key, method, path, accept string) (end func(), status int) {
	a.t.Helper()
	body, feed := io.Pipe()
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if method == http.MethodGet {
		request.Body = http.NoBody
	} else {
		go func() { _, _ = io.WriteString(feed, deposit1+"\n") }() // the response begins with the first result
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Accept", accept)
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := plainClient.Do(request) //nolint:bodyclose // end does
	if err != nil {
		a.t.Fatal(err)
	}
	return func() { _ = feed.Close(); _ = body.Close(); _ = response.Body.Close() }, response.StatusCode
}

// TestSharesOfCallers opens all streams that one caller may have: more get 429, even if others are free, while another caller is
// served; once one has ended, the caller may open another.
func TestSharesOfCallers(t *testing.T) {
	t.Parallel()
	const all, share = 5, 2
	for _, kind := range []struct{ name, method, path, accept string }{
		{"events", "GET", "/events", "text/event-stream, application/problem+json"},
		{"bulk", "POST", "/commands", "application/x-ndjson"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{auth: &callers{}, maxStreams: all, share: share})
			keys := []string{"events:read+accounts:write", "events:read+accounts:write+accounts:read", "events:read+accounts:write+metrics:read"}
			opened := func(key string) (func(), int) { return a.openFor(key, kind.method, kind.path, kind.accept) }
			must := func(key string, want int) func() {
				t.Helper()
				end, status := opened(key)
				if status != want {
					t.Errorf("%s: %d, want %d", key, status, want)
				}
				return end
			}
			first := must(keys[0], 200)
			defer must(keys[0], 200)()
			refused := a.send(kind.method, kind.path, "", "Content-Type", "application/x-ndjson", "Accept", kind.accept, "Authorization", "Bearer "+keys[0])
			if code, _ := refused.problem(t); refused.status != 429 || code != "caller-share-used" || refused.header.Get("Retry-After") == "" {
				t.Errorf("beyond the share: %d %s", refused.status, refused.text)
			}
			defer must(keys[1], 200)()
			defer must(keys[1], 200)()
			defer must(keys[2], 200)()
			must(keys[2], 503)() // the limit for all callers
			first()
			eventually(t, func() bool {
				end, status := opened(keys[0])
				end()
				return status == http.StatusOK
			})
		})
	}
}

// Without authentication a caller is an address; its default share is a quarter.
func TestSharesOfAddresses(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{maxStreams: 8})
	for i, want := range []int{200, 200, 429} {
		end, status := a.openFor("", "POST", "/commands", "")
		defer end()
		if status != want {
			t.Errorf("request %d: %d, want %d", i, status, want)
		}
	}
	end, status := a.openFor("", "GET", "/events", "text/event-stream, application/problem+json") // another kind
	defer end()
	if status != http.StatusOK {
		t.Errorf("events: %d", status)
	}
}
