//go:build browser

package console

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestCrossOriginPage makes a page of another origin send what a browser allows: requests without a preflight, whose responses
// it may not read. Then the page uses its own name for the service, as DNS rebinding does.
func TestCrossOriginPage(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada", "EUR")
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>foreign</title><h1>foreign</h1>"))
	}))
	defer foreign.Close()
	b := newTab(t, "") // the browser reports refused requests

	b.run(chromedp.Navigate(foreign.URL))
	for _, path := range []string{
		"/projections/balances/pause", "/projections/totals/replay", "/accounts/" + ada + "/suspend", "/accounts/" + ada + "/close",
	} {
		b.script(`globalThis.sent = undefined; fetch(%q, {method: 'POST', mode: 'no-cors'}).finally(() => { globalThis.sent = true })`, s.base+path)
		b.until(`globalThis.sent === true`)
	}
	b.script(`const f = document.createElement('form'); f.method = 'post'; f.action = %q; document.body.append(f); f.submit()`,
		s.base+"/accounts/"+ada+"/suspend")
	b.until(`document.body.innerText.includes('cross-origin-request')`)
	if got := s.call("GET", "/accounts/"+ada, "")["status"]; got != "active" {
		t.Errorf("the account is %v", got)
	}
	if got := s.call("GET", "/projections/balances", "")["state"]; got != "running" {
		t.Errorf("the projection is %v", got)
	}
	if got := s.call("GET", "/projections/totals/replays", "")["replays"].([]any); len(got) != 0 {
		t.Errorf("replays: %v", got)
	}

	u, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	b.run(chromedp.Navigate("http://evil.test:" + u.Port() + "/accounts"))
	b.until(`document.body.innerText.includes('misdirected-request')`)
	b.script(`fetch('/accounts/%s/suspend', {method: 'POST'}).then((r) => { globalThis.sent = r.status })`, ada)
	b.until(`globalThis.sent === 421`)
	if got := s.call("GET", "/accounts/"+ada, "")["status"]; got != "active" {
		t.Errorf("the account is %v", got)
	}

	// The console itself may do all of this.
	own := browse(t, s.base, "/projections/balances")
	own.button("Pause")
	s.eventually("the console has paused the projection", func() bool {
		return s.call("GET", "/projections/balances", "")["state"] == "paused"
	})
}

// TestConsoleBelowAPath uses a proxy that mounts the service below a path, and strips the path.
func TestConsoleBelowAPath(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.open("Ada Lovelace", "EUR")
	u, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.StripPrefix("/bank", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // as docs/proxies.md says
		},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}))
	t.Cleanup(func() { // after the browser's
		proxy.CloseClientConnections()
		proxy.Close()
	})
	b := browse(t, proxy.URL+"/bank", "/accounts")
	b.sees("Ada Lovelace")
	b.visit("/projections/totals")
	b.button("Pause")
	s.eventually("the console has paused the projection", func() bool {
		return s.call("GET", "/projections/totals", "")["state"] == "paused"
	})
}
