package httpapi

import (
	"cmp"
	"net/http"
	"strconv"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/webhook"
)

// deliveriesPage is the size of a page of deliveries when the caller does not say.
const deliveriesPage = 100

func (s *server) webhookRules() request.WebhookRules {
	return request.WebhookRules{TypePrefix: s.feed.Naming().TypePrefix, CheckURL: s.hookRules.CheckURL}
}

// ListWebhooks serves GET /webhooks.
func (s *server) ListWebhooks(w http.ResponseWriter, r *http.Request) {
	all, err := s.webhooks.Webhooks(r.Context())
	list := genapi.WebhookList{Webhooks: make([]genapi.Webhook, len(all))}
	for i := range all {
		list.Webhooks[i] = webhookOf(&all[i])
	}
	s.reply(w, r, http.StatusOK, &list, err)
}

// GetWebhook serves GET /webhooks/{webhook_id}.
func (s *server) GetWebhook(w http.ResponseWriter, r *http.Request, id genapi.WebhookID) {
	hook, err := s.webhooks.Webhook(r.Context(), id)
	s.reply(w, r, http.StatusOK, new(webhookOf(&hook)), err)
}

// CreateWebhook serves POST /webhooks.
func (s *server) CreateWebhook(w http.ResponseWriter, r *http.Request) {
	n, err := s.spec.NewWebhook(w, r, s.webhookRules())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	hook, secret, err := s.subscribe.CreateWebhook(r.Context(), n)
	if err == nil {
		w.Header().Set("Location", "/webhooks/"+hook.ID.String())
	}
	s.replySecret(w, r, http.StatusCreated, &hook, secret, err)
}

// ChangeWebhook serves PATCH /webhooks/{webhook_id}.
func (s *server) ChangeWebhook(w http.ResponseWriter, r *http.Request, id genapi.WebhookID) {
	c, err := s.spec.WebhookChange(w, r, s.webhookRules())
	s.changeWebhook(w, r, id, c, err)
}

// ResumeWebhook serves POST /webhooks/{webhook_id}/resume.
func (s *server) ResumeWebhook(w http.ResponseWriter, r *http.Request, id genapi.WebhookID) {
	c, err := s.spec.WebhookResumption(w, r)
	s.changeWebhook(w, r, id, c, err)
}

func (s *server) changeWebhook(w http.ResponseWriter, r *http.Request, id genapi.WebhookID, c webhook.Change, err error) {
	var hook webhook.Webhook
	if err == nil {
		hook, err = s.subscribe.ChangeWebhook(r.Context(), id, c)
	}
	s.reply(w, r, http.StatusOK, new(webhookOf(&hook)), err)
}

// DeleteWebhook serves DELETE /webhooks/{webhook_id}.
func (s *server) DeleteWebhook(w http.ResponseWriter, r *http.Request, id genapi.WebhookID) {
	if err := s.subscribe.DeleteWebhook(r.Context(), id); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// RotateWebhookSecret serves POST /webhooks/{webhook_id}/rotate-secret.
func (s *server) RotateWebhookSecret(w http.ResponseWriter, r *http.Request, id genapi.WebhookID) {
	overlap, err := s.spec.SecretOverlap(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	hook, secret, err := s.hookRules.RotateSecret(r.Context(), id, overlap)
	s.replySecret(w, r, http.StatusOK, &hook, secret, err)
}

// replySecret sends a webhook with its secret, which no cache may keep.
func (s *server) replySecret(w http.ResponseWriter, r *http.Request, status int, hook *webhook.Webhook, secret string, err error) {
	w.Header().Set("Cache-Control", "no-store")
	h := webhookOf(hook)
	s.reply(w, r, status, &genapi.WebhookWithSecret{
		ID: h.ID, URL: h.URL, Types: h.Types, Accounts: h.Accounts, State: h.State, Position: h.Position, Lag: h.Lag, Attempts: h.Attempts,
		FailingSince: h.FailingSince, NextAttemptAt: h.NextAttemptAt, LastError: h.LastError, LastDeliveredAt: h.LastDeliveredAt,
		PreviousSecretUntil: h.PreviousSecretUntil, CreatedAt: h.CreatedAt, UpdatedAt: h.UpdatedAt, Secret: secret,
	}, err)
}

// ListDeliveries serves GET /webhooks/{webhook_id}/deliveries.
func (s *server) ListDeliveries(w http.ResponseWriter, r *http.Request, id genapi.WebhookID, p genapi.ListDeliveriesParams) {
	limit := cmp.Or(int(p.Limit), deliveriesPage)
	all, err := s.webhooks.Deliveries(r.Context(), id, p.Before, limit)
	list := genapi.DeliveryList{Deliveries: make([]genapi.Delivery, len(all))}
	for i := range all {
		list.Deliveries[i] = deliveryOf(&all[i])
	}
	if err == nil && len(all) == limit && all[limit-1].Number > 1 {
		next := r.URL.Query()
		next.Set("before", strconv.FormatInt(all[limit-1].Number, 10))
		w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	s.reply(w, r, http.StatusOK, &list, err)
}

func webhookOf(h *webhook.Webhook) genapi.Webhook {
	return genapi.Webhook{
		ID: h.ID, URL: h.URL, Types: h.Types, Accounts: h.Accounts, State: genapi.WebhookState(h.State), Position: h.Position, Lag: h.Lag,
		Attempts:            h.Attempts,
		FailingSince:        nullable(timeText(h.FailingSince)),
		NextAttemptAt:       nullable(timeText(h.NextAttemptAt)),
		LastError:           nullable(h.LastError),
		LastDeliveredAt:     nullable(timeText(h.LastDeliveredAt)),
		PreviousSecretUntil: nullable(timeText(h.PreviousSecretUntil)),
		CreatedAt:           timeText(h.CreatedAt),
		UpdatedAt:           timeText(h.UpdatedAt),
	}
}

func deliveryOf(d *webhook.Delivery) genapi.Delivery {
	outcome := genapi.DeliveryOutcomeFailed
	if d.Delivered {
		outcome = genapi.DeliveryOutcomeDelivered
	}
	return genapi.Delivery{
		Number: d.Number, Position: d.Position, EventID: d.EventID, Type: d.Type, Attempt: d.Attempt, Outcome: outcome,
		Status: nullable(d.Status), LatencyMs: d.Latency.Milliseconds(), Error: nullable(d.Error), At: timeText(d.At),
	}
}
