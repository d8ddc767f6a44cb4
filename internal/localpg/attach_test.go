package localpg_test

import (
	"errors"
	"path/filepath"
	"testing"

	"passbook/internal/localpg"
)

func TestAttach(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	for _, empty := range []string{dir, filepath.Join(dir, "nowhere")} {
		if _, err := localpg.Attach(t.Context(), empty); !errors.Is(err, localpg.ErrNoData) {
			t.Errorf("%s: %v", empty, err)
		}
	}
	server := start(t, options(t, dir))
	url, err := localpg.Attach(t.Context(), dir)
	if err != nil || url != server.URL() {
		t.Fatalf("%s, %v; the server is at %s", url, err, server.URL())
	}
	if got := query(t, url, "select current_user || ' ' || current_database()"); got != "passbook passbook" {
		t.Errorf("connected as %s", got)
	}
	stop(t, server)
	if _, err := localpg.Attach(t.Context(), dir); !errors.Is(err, localpg.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}
