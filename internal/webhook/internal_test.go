package webhook

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"1.1.1.1": true, "93.184.216.34": true, "2606:4700:4700::1111": true, "::ffff:1.1.1.1": true, "64:ff9b::101:101": true, "2002:101:101::1": true,
		"100.63.255.255": true, "172.15.0.1": true, "172.32.0.1": true, "169.253.0.1": true, "198.20.0.1": true, "223.255.255.255": true,

		"127.0.0.1": false, "127.255.255.255": false, "::1": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::1": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "fd00::1": false, "fc00::1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::a00:1": false, "64:ff9b:1::1": false, "2002:c0a8:101::1": false,
		"169.254.169.254": false, "::ffff:169.254.169.254": false, "64:ff9b::a9fe:a9fe": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false,
		"0.0.0.0": false, "0.1.2.3": false, "::": false, "::ffff:0.0.0.0": false,
		"224.0.0.1": false, "239.1.1.1": false, "ff02::1": false, "ff0e::1": false, "240.0.0.1": false, "255.255.255.255": false,
		"100.64.0.1": false, "192.0.0.8": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"2001:db8::1": false, "2001::1": false, "fec0::1": false, "100::1": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public is %v", text, got)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ public, private bool }{
		"https://example.com/hook?x=1": {true, true}, "https://example.com:8443": {true, true}, "https://1.1.1.1/": {true, true}, "https://[2606:4700::1]:443/": {true, true},
		"http://example.com": {false, true}, "https://127.0.0.1": {false, true}, "https://[::1]/": {false, true}, "https://localhost/": {false, true},
		"https://LocalHost.": {false, true}, "https://a.localhost": {false, true}, "https://169.254.169.254/latest/meta-data": {false, true},
		"https://[::ffff:10.0.0.1]/": {false, true}, "https://[fe80::1%25eth0]/": {false, true},
		"": {}, "example.com": {}, "ftp://example.com": {}, "https:example.com": {}, "https://": {}, "https://:443": {}, "https://ada:secret@example.com": {},
		"https://example.com/#part": {}, "https://exa mple.com": {}, "https://example.com/\r\nHost: x": {}, "https://exämple.com": {}, "file:///etc/passwd": {},
		"https://example.com/" + strings.Repeat("a", MaxURL): {},
	} {
		if got := checkURL(text, false) == nil; got != want.public {
			t.Errorf("%.60q: %v", text, checkURL(text, false))
		}
		if got := checkURL(text, true) == nil; got != want.private {
			t.Errorf("%.60q when private ones are allowed: %v", text, checkURL(text, true))
		}
	}
}

// attemptAt makes an attempt at a URL.
func attemptAt(t *testing.T, allowPrivate bool, timeout time.Duration, url string) result {
	t.Helper()
	s := newSender(allowPrivate, timeout, "test")
	defer s.client.CloseIdleConnections()
	return s.send(t.Context(), url, message{id: uuid.New(), body: []byte(`{}`), secrets: [][]byte{newSecret()}}, time.Now())
}

// TestAttempts holds what becomes of attempts at receivers of every kind. A name is resolved before its address is checked.
func TestAttempts(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	reached := make(chan string, 100)
	mux := http.NewServeMux()
	for path, serve := range map[string]http.HandlerFunc{
		"/ok":       func(http.ResponseWriter, *http.Request) {},
		"/redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusTemporaryRedirect) },
		"/broken":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"/slow":     func(http.ResponseWriter, *http.Request) { <-done },
		"/endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 32<<10)); err != nil {
					return
				}
			}
		},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			reached <- r.URL.Path
			serve(w, r)
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(done) })
	named := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for _, test := range []struct {
		url     string
		private bool
		status  int
		err     string
	}{
		{server.URL + "/ok", true, 200, ""},
		{named + "/ok", true, 200, ""},
		{server.URL + "/endless", true, 200, ""},
		{server.URL + "/redirect", true, 307, "the receiver returned 307"},
		{server.URL + "/broken", true, 500, "the receiver returned 500"},
		{server.URL + "/slow?token=hush", true, 0, "Timeout exceeded"},
		{"http://127.0.0.1:1/?token=hush", true, 0, "connection refused"},
		{server.URL + "/ok", false, 0, errAddress.Error()},
		{named + "/ok", false, 0, errAddress.Error()}, // a name that leads to a loopback address
		{"https://localhost:1/", false, 0, errAddress.Error()},
	} {
		got := attemptAt(t, test.private, 300*time.Millisecond, test.url)
		if got.status != test.status || got.delivered() != (test.err == "") {
			t.Errorf("%s: status %d, %v", test.url, got.status, got.err)
		}
		if got.err != nil && (!strings.Contains(got.err.Error(), test.err) || strings.Contains(got.err.Error(), "hush")) {
			t.Errorf("%s: %v", test.url, got.err)
		}
		if errors.Is(got.err, errAddress) && len(reached) > 0 {
			t.Errorf("%s was reached", test.url)
		}
		for len(reached) > 0 {
			if path := <-reached; !strings.Contains(test.url, path) {
				t.Errorf("%s led to %s", test.url, path)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-5": 0, "soon": 0, "Fri, 02 Jan 2026 15:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 15:00:00 GMT": 0, "999999": longestRetryAfter, "99999999999999": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// TestBackoff grows from the first pause to the longest, with chance in its upper half only.
func TestBackoff(t *testing.T) {
	t.Parallel()
	w := &worker{Service: &Service{cfg: Config{FirstRetry: time.Second, LongestRetry: 15 * time.Minute}}}
	for attempts, whole := range map[int]time.Duration{
		0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 10: 15 * time.Minute, 29: 15 * time.Minute, 100: 15 * time.Minute,
	} {
		w.hook.attempts = attempts
		for range 100 {
			if got := w.backoff(); got < whole/2 || got > whole {
				t.Errorf("after %d failures: %v", attempts+1, got)
			}
		}
	}
}
