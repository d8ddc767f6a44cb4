package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"passbook/internal/httpapi/request"
)

// basePath is the path at which a proxy mounts the service, such as /bank; empty at the root.
type basePath string

// check refuses a path that begins like one of the API's: a request would then be ambiguous.
func (b basePath) check(spec *request.Spec) error {
	if b == "" {
		return nil
	}
	if b[0] != '/' || strings.HasSuffix(string(b), "/") {
		return fmt.Errorf("httpapi: the base path %q must begin with a slash and not end with one", string(b))
	}
	first, _, _ := strings.Cut(string(b[1:]), "/")
	for _, pattern := range spec.Patterns() {
		if taken, _, _ := strings.Cut(pattern[1:], "/"); taken == first {
			return fmt.Errorf("httpapi: the base path %q begins like %s of the API", string(b), pattern)
		}
	}
	return nil
}

// strip removes the base path from a request that has it.
func (b basePath) strip(r *http.Request) *http.Request {
	rest, found := strings.CutPrefix(r.URL.Path, string(b))
	if b == "" || !found || rest != "" && rest[0] != '/' {
		return r
	}
	if rest == "" {
		rest = "/"
	}
	u := new(url.URL)
	*u = *r.URL
	u.Path, u.RawPath = rest, strings.TrimPrefix(r.URL.RawPath, string(b))
	r.URL = u // r is this package's own copy
	return r
}

// refer adds the base path to the headers that refer to this service.
func (b basePath) refer(h http.Header) {
	if b == "" {
		return
	}
	for _, location := range h["Location"] {
		if strings.HasPrefix(location, "/") {
			h["Location"] = []string{string(b) + location}
		}
	}
	for _, link := range h["Link"] {
		if strings.HasPrefix(link, "</") {
			h["Link"] = []string{"<" + string(b) + link[1:]}
		}
	}
}
