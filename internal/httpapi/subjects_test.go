package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
)

// TestEraseSubjectScope expects a key that may do everything else not to be able to erase anybody.
func TestEraseSubjectScope(t *testing.T) {
	t.Parallel()
	path := "/subjects/" + replayID.String() + "/erase"
	a := serve(t, &service{auth: &callers{}})
	for scopes, want := range map[string]int{
		"accounts:write+accounts:read+events:read+projections:admin+metrics:read+audit:read": http.StatusForbidden,
		"subjects:erase": http.StatusOK,
	} {
		if got := a.send("POST", path, "", "Authorization", "Bearer "+scopes); got.status != want {
			t.Errorf("with %s: %d %s", scopes, got.status, got.text)
		}
	}
}

func TestEraseSubject(t *testing.T) {
	t.Parallel()
	path := "/subjects/" + replayID.String() + "/erase"
	a := serve(t, &service{})
	want := `{"accounts":["` + replayID.String() + `"],"plain_text_remains":true,"position":7,"subject_id":"` + replayID.String() + `"}`
	if got := a.send("POST", path, ""); got.status != http.StatusOK || got.text != want {
		t.Errorf("%d %s", got.status, got.text)
	}
	got := a.send("POST", "/subjects/"+uuid.NewString()+"/erase", "")
	if code, _ := got.problem(t); got.status != http.StatusNotFound || code != "subject-not-found" {
		t.Errorf("an unknown subject: %d %s", got.status, got.text)
	}
	got = serve(t, &service{unsealed: true}).send("POST", path, "")
	if code, _ := got.problem(t); got.status != http.StatusConflict || code != "erasure-off" {
		t.Errorf("without sealing: %d %s", got.status, got.text)
	}
	got = serve(t, &service{primary: "https://bank.example"}).send("POST", path, "")
	if code, _ := got.problem(t); got.status != http.StatusMisdirectedRequest || code != "not-primary" {
		t.Errorf("on a follower: %d %s", got.status, got.text)
	}
}
