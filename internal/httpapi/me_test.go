package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMe asks who the caller is: without authentication, with several keys, and on a follower.
func TestMe(t *testing.T) {
	t.Parallel()
	everything := []any{"accounts:write", "accounts:read", "events:read", "projections:read", "projections:admin", "metrics:read", "audit:read", "subjects:erase"}
	type object = map[string]any
	for name, test := range map[string]struct {
		service    *service
		credential string
		want       object
	}{
		"no authentication": {&service{}, "", object{
			"authentication": "none", "actor": nil, "scopes": everything, "follower": false, "primary_url": nil,
		}},
		"one scope": {&service{auth: &callers{}}, "metrics:read", object{
			"authentication": "keys", "actor": "key:metrics:read test", "scopes": []any{"metrics:read"}, "follower": false, "primary_url": nil,
		}},
		"a scope that implies another": {&service{auth: &callers{}}, "projections:admin", object{
			"authentication": "keys", "actor": "key:projections:admin test", "scopes": []any{"projections:read", "projections:admin"},
			"follower": false, "primary_url": nil,
		}},
		"a follower": {&service{auth: &callers{}, primary: "https://bank.example"}, "accounts:write", object{
			"authentication": "keys", "actor": "key:accounts:write test", "scopes": []any{"accounts:write"},
			"follower": true, "primary_url": "https://bank.example",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := serve(t, test.service).send("GET", "/me", "", "Authorization", "Bearer "+test.credential)
			if diff := cmp.Diff(test.want, got.json(t)); got.status != http.StatusOK || diff != "" {
				t.Errorf("%d %s", got.status, diff)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("it may be stored: %v", got.header)
			}
		})
	}
}
