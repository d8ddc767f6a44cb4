package request

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"passbook/internal/webhook"
)

// WebhookRules are what the document cannot say of webhooks.
type WebhookRules struct {
	// TypePrefix may be before the types of events.
	TypePrefix string
	// CheckURL returns an error, whose text goes on from the name of the field, for a URL that a webhook may not have.
	CheckURL func(string) error
}

// NewWebhook reads the body of POST /webhooks.
func (s *Spec) NewWebhook(w http.ResponseWriter, r *http.Request, rules WebhookRules) (n webhook.New, err error) {
	f, err := s.webhookForm(w, r, s.createWebhook, false)
	if err != nil {
		return n, err
	}
	n = webhook.New{URL: f.webhookURL(rules), Filter: webhook.Filter{Types: f.eventTypes(rules), Accounts: f.ids("accounts")}, After: f.after()}
	return n, f.err()
}

// WebhookChange reads the body of PATCH /webhooks/{webhook_id}.
func (s *Spec) WebhookChange(w http.ResponseWriter, r *http.Request, rules WebhookRules) (c webhook.Change, err error) {
	f, err := s.webhookForm(w, r, s.changeWebhook, true)
	if err != nil {
		return c, err
	}
	if f.has("url") {
		c.URL = new(f.webhookURL(rules))
	}
	if f.has("types") {
		c.Types = new(f.eventTypes(rules))
	}
	if f.has("accounts") {
		c.Accounts = new(f.ids("accounts"))
	}
	if f.has("state") {
		c.State = new(webhook.State(f.text("state")))
	}
	return c, f.err()
}

// WebhookResumption reads the body of POST /webhooks/{webhook_id}/resume.
func (s *Spec) WebhookResumption(w http.ResponseWriter, r *http.Request) (c webhook.Change, err error) {
	f, err := s.webhookForm(w, r, s.resumeWebhook, false)
	if err != nil {
		return c, err
	}
	return webhook.Change{State: new(webhook.Active), After: f.after()}, f.err()
}

// SecretOverlap reads the body of POST /webhooks/{webhook_id}/rotate-secret.
func (s *Spec) SecretOverlap(w http.ResponseWriter, r *http.Request) (time.Duration, error) {
	const name = "overlap_seconds"
	f, err := s.webhookForm(w, r, s.rotateSecret, false)
	if err != nil {
		return 0, err
	}
	overlap := webhook.Overlap
	if f.has(name) {
		overlap = time.Duration(f.integer(name)) * time.Second
	}
	return overlap, f.err()
}

// webhookForm reads a body, which may be absent where nothing in it is required.
func (s *Spec) webhookForm(w http.ResponseWriter, r *http.Request, schema *openapi3.Schema, isPatch bool) (*form, error) {
	raw, err := readBody(w, r, isPatch)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	return readForm(raw, schema)
}

func (f *form) webhookURL(rules WebhookRules) string {
	const name = "url"
	text := f.text(name)
	if f.has(name) {
		if err := rules.CheckURL(text); err != nil {
			f.refuse(name, "invalid-url", err.Error())
		}
	}
	return text
}

// after returns the member of that name, or nil when it is absent.
func (f *form) after() *int64 {
	if !f.has("after") {
		return nil
	}
	return new(f.integer("after"))
}

// eventTypes returns the member types, without the prefix.
func (f *form) eventTypes(rules WebhookRules) []string {
	members, _ := f.members["types"].([]any)
	types := make([]string, 0, len(members))
	for _, member := range members {
		text, _ := member.(string)
		types = append(types, strings.TrimPrefix(text, rules.TypePrefix))
	}
	return types
}

// ids returns a member that is an array of UUIDs.
func (f *form) ids(name string) []uuid.UUID {
	members, _ := f.members[name].([]any)
	ids := make([]uuid.UUID, 0, len(members))
	for i, member := range members {
		text, _ := member.(string)
		id, ok := parseUUID(text)
		if !ok && f.has(name) {
			f.add(finding{[]string{name, strconv.Itoa(i)}, "malformed", uuidSentence})
		}
		ids = append(ids, id)
	}
	return ids
}
