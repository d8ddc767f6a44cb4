package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// origin protects a service without authentication from web pages. Whoever can reach it may do everything, and a page
// from anywhere runs in a browser that can: it may send requests that change something without reading the answers
// (cross-site request forgery), or give its own name the service's address and then read them as well (DNS rebinding).
// With authentication there is none: a browser adds no credential by itself.
type origin struct {
	hosts       []string // beside the loopback ones, in lower case
	crossOrigin *http.CrossOriginProtection
	fail        func(w http.ResponseWriter, r *http.Request, err error)
}

// alwaysAnswered are the paths that answer whatever the Host: probes address an instance by its number, and there is
// nothing in the answers that a page could use.
var alwaysAnswered = map[string]bool{"/livez": true, "/readyz": true}

// protect comes before anything that a request could bring about.
func (o *origin) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !o.addressed(r.Host) && !alwaysAnswered[r.URL.Path]:
			o.fail(w, r, newProblem(kindMisdirected, "Without authentication this service answers only requests to localhost, "+
				"127.0.0.1 and [::1], and to the names in PASSBOOK_HOSTS."))
		case o.crossOrigin.Check(r) != nil:
			o.fail(w, r, newProblem(kindCrossOrigin, "A page of another origin may change nothing here."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// addressed tells whether the value of a Host header names this service.
func (o *origin) addressed(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil && !strings.ContainsFunc(port, notDigit) {
		host = name
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if address, err := netip.ParseAddr(host); err == nil && address.Unmap().IsLoopback() {
		return true
	}
	host = strings.ToLower(host)
	return host == "localhost" || slices.Contains(o.hosts, host)
}

func notDigit(r rune) bool { return r < '0' || r > '9' }
