package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// origin protects a service without authentication from web pages. Everyone who reaches the service may do everything, and a
// browser that reaches it may run a page from anywhere: the page can send requests that change something without reading the
// responses (cross-site request forgery), or point its own name at the address of the service and then read them as well (DNS
// rebinding). With authentication there is no origin: a browser adds no credential by itself.
type origin struct {
	hosts       []string // in addition to loopback ones, in lower case
	crossOrigin *http.CrossOriginProtection
	fail        func(w http.ResponseWriter, r *http.Request, err error)
}

// anyHost are the paths that are served for every Host: probes address an instance by its IP address, and a page could not use
// the responses.
var anyHost = map[string]bool{"/livez": true, "/readyz": true}

// protect runs before anything that a request could cause.
func (o *origin) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !o.addressed(r.Host) && !anyHost[r.URL.Path]:
			o.fail(w, r, newProblem(kindMisdirected, "Without authentication this service accepts only requests to localhost, "+
				"127.0.0.1 and [::1], and to the names in PASSBOOK_HOSTS."))
		case o.crossOrigin.Check(r) != nil:
			o.fail(w, r, newProblem(kindCrossOrigin, "A page of another origin may not change anything; PASSBOOK_CORS_ORIGINS allows origins."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// addressed reports whether the value of a Host header names this service.
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
