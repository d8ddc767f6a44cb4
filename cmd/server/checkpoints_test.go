package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// TestCheckpointsArePosted keeps what a server posts in a file, and audits the log with it: also once its end was cut off.
func TestCheckpointsArePosted(t *testing.T) {
	t.Parallel()
	bin, url, file := build(t), pgtest.URL(t), filepath.Join(t.TempDir(), "checkpoints")
	key, _ := keygen(t, bin)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := os.WriteFile(file, body, 0o600); err != nil || r.URL.Path != "/checkpoints" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(receiver.Close)
	p := launch(t, bin, "DATABASE_URL="+url, "PASSBOOK_SIGNING_KEY_FILE="+key, "PASSBOOK_CHECKPOINT_URL="+receiver.URL+"/checkpoints")
	p.awaitReady(t, time.Minute)
	api{t, apitest.Client(t), p.base}.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":"1.00"}`, 201)
	p.metricsHave(t, `passbook_checkpoint_sent_position{to="url"} 2`, `passbook_checkpoint_send_failing{to="url"} 0`)
	p.stop(t)
	audit := func() (int, string) {
		return runWith(t, bin, "X=", "audit", "--database-url", url, "--key", key+".pub", "--checkpoint", file)
	}
	if code, out := audit(); code != 0 || !strings.Contains(out, "checkpoints compared: 2") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, err := connect(t, url).Exec(t.Context(), "delete from events where position = 2; truncate log_tiles, log_checkpoint"); err != nil {
		t.Fatal(err)
	}
	if code, out := audit(); code != 1 || !strings.Contains(out, "positions 2 to 2 are missing") {
		t.Errorf("after its end was cut off: exit code %d: %s", code, out)
	}
}
