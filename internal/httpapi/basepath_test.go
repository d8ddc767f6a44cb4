package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"passbook/internal/query"
)

// TestBasePath mounts the service below a path, behind a proxy that leaves the path on or strips it.
func TestBasePath(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{base: "/bank", accounts: func(query.ListFilter, query.Wait) (query.Page, int64, error) {
		return query.Page{Next: "abc"}, 42, nil
	}})
	// The document does not have the path, so this uses a plain client.
	a.client = &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	account := `{"owner":"Ada","currency":"EUR","account_id":"` + accountID.String() + `"}`
	for _, prefix := range []string{"/bank", ""} {
		for _, tt := range []struct {
			method, path, body string
			status             int
			header, want, has  string
		}{
			{"GET", "/", "", 200, "", "", `"docs":"/bank/docs"`},
			{"GET", "/docs/", "", 301, "Location", "/bank/docs", ""},
			{"GET", "/console/", "", 301, "Location", "/bank/console", ""},
			{"GET", "/docs", "", 200, "", "", `"/bank/openapi.yaml"`},
			{"GET", "/docs", "", 200, "", "", `"/bank/docs/swagger-ui-bundle.js`},
			{"GET", "/docs/swagger-ui-bundle.js", "", 200, "", "", "swagger"},
			{"GET", "/openapi.yaml", "", 200, "", "", "\nservers:\n  - url: /bank\n"},
			{"GET", "/console", "", 200, "", "", `src="console/main.js"`},
			{"GET", "/console/main.js", "", 200, "", "", "import"},
			{"GET", "/accounts", "", 200, "Link", `</bank/accounts?cursor=abc>; rel="next"`, ""},
			{"POST", "/accounts", account, 201, "Location", "/bank/accounts/" + accountID.String(), ""},
			{"POST", "/projections/balances/replay", "", 202, "Location", "/bank" + replayPath, ""},
			{"GET", "/none", "", 404, "", "", "not-found"},
		} {
			got := a.send(tt.method, prefix+tt.path, tt.body)
			if got.status != tt.status || got.header.Get(tt.header) != tt.want || !strings.Contains(got.text, tt.has) {
				t.Errorf("%s %s%s: %d %v %.300s", tt.method, prefix, tt.path, got.status, got.header, got.text)
			}
		}
	}
	if got := a.send("GET", "/bank", "", "Accept", "text/html"); got.header.Get("Location") != "/bank/console" {
		t.Errorf("%d %v", got.status, got.header)
	}
	for _, path := range []string{"/bankers/accounts", "/bank/bank/accounts", "/Bank/accounts"} {
		if got := a.send("GET", path, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}
