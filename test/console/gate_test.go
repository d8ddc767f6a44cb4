//go:build browser

package console

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// gate is a reverse proxy between the browser and the server. It sees every request, and can simulate the
// network: refuse a request, lose a response, cut a stream.
type gate struct {
	*httptest.Server

	mu   sync.Mutex
	seen []seen
	// refuse responds instead of the server if it returns true. It may be nil.
	refuse func(http.ResponseWriter, *http.Request) bool
}

type seen struct {
	method, path, query string
	header              http.Header
}

func newGate(t *testing.T, base string) *gate {
	t.Helper()
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	g := new(gate)
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		Transport:     transport,
		// A browser that leaves a page cancels its streams.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.seen = append(g.seen, seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Clone()})
		refuse := g.refuse
		g.mu.Unlock()
		if refuse != nil && refuse(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
		transport.CloseIdleConnections()
	})
	return g
}

func (g *gate) instead(refuse func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
}

// requests returns the requests so far with a method and path.
func (g *gate) requests(method, path string) []seen {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.seen), func(s seen) bool { return s.method != method || s.path != path })
}

// cut drops a request without a response.
func cut(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func problem(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
