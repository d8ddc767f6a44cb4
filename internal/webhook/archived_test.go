package webhook_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/httpapi/feed"
	"passbook/internal/pgtest"
	"passbook/internal/webhook"
)

// TestWebhooksOfAnArchivedLog makes subscriptions that begin before and after the first event that the log has, and leaves one behind.
func TestWebhooksOfAnArchivedLog(t *testing.T) {
	t.Parallel()
	i := start(t, pgtest.URL(t), "one", nil)
	to := receive(t, func(w http.ResponseWriter, _ *received) { w.WriteHeader(http.StatusNoContent) })
	behind, _ := i.create(webhook.New{URL: to.url})
	paused := webhook.Paused
	i.change(behind.ID, webhook.Change{State: &paused})
	id := i.open()
	i.deposit(id, 8)
	pgtest.Archive(t, i.pool, 6)
	for after, refused := range map[int64]bool{0: true, 1: true, 4: true, 5: false, 9: false} {
		_, _, err := i.CreateWebhook(t.Context(), webhook.New{URL: to.url, After: &after, Filter: webhook.Filter{Accounts: []uuid.UUID{uuid.New()}}})
		archived, is := errors.AsType[*feed.ArchivedError](err)
		if is != refused || !is && err != nil || is && archived.First != 6 {
			t.Errorf("after %d: %v", after, err)
		}
	}
	active := webhook.Active
	i.change(behind.ID, webhook.Change{State: &active})
	got := i.until(behind.ID, "it is parked", func(w webhook.Webhook) bool { return w.State == webhook.Parked })
	if !strings.Contains(got.LastError, "before position 6 are in the archive") || len(to.all()) != 0 {
		t.Errorf("%+v", got)
	}
}
