package client

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
)

// Webhooks returns all webhooks, in the order they were made.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	req, err := newListWebhooksRequest(ctx, c.base)
	list, _, err := ask[WebhookList](c, again, req, err)
	if err != nil {
		return nil, err
	}
	return list.Webhooks, nil
}

// Webhook returns the state of a webhook.
func (c *Client) Webhook(ctx context.Context, id uuid.UUID) (*Webhook, error) {
	req, err := newGetWebhookRequest(ctx, c.base, id)
	w, _, err := ask[Webhook](c, again, req, err)
	return w, err
}

// CreateWebhook has events sent to a URL. The response has the secret that they are signed with, which cannot be read again. The
// client does not retry it, since a second one would have every event sent twice.
func (c *Client) CreateWebhook(ctx context.Context, w CreateWebhook) (*WebhookWithSecret, error) {
	req, err := newCreateWebhookRequest(ctx, c.base, w)
	made, _, err := ask[WebhookWithSecret](c, once, req, err)
	return made, err
}

// ChangeWebhook pauses or resumes a webhook, or changes its URL or its filter.
func (c *Client) ChangeWebhook(ctx context.Context, id uuid.UUID, change ChangeWebhook) (*Webhook, error) {
	req, err := newChangeWebhookRequest(ctx, c.base, id, change)
	w, _, err := ask[Webhook](c, again, req, err)
	return w, err
}

// ResumeWebhook ends the states paused, parked and disabled. A webhook goes on where it stopped, or after a position.
func (c *Client) ResumeWebhook(ctx context.Context, id uuid.UUID, how ResumeWebhook) (*Webhook, error) {
	req, err := newResumeWebhookRequest(ctx, c.base, id, how)
	w, _, err := ask[Webhook](c, again, req, err)
	return w, err
}

// RotateWebhookSecret gives a webhook a new secret. The one it had signs too for the overlap, a day unless set. The client does
// not retry it, since a second rotation would end the overlap of the first.
func (c *Client) RotateWebhookSecret(ctx context.Context, id uuid.UUID, how RotateSecret) (*WebhookWithSecret, error) {
	req, err := newRotateWebhookSecretRequest(ctx, c.base, id, how)
	w, _, err := ask[WebhookWithSecret](c, once, req, err)
	return w, err
}

// DeleteWebhook deletes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id uuid.UUID) error {
	req, err := newDeleteWebhookRequest(ctx, c.base, id)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	_, err = c.send(req, again)
	return err
}

// Deliveries iterates over the attempts of a webhook that are kept, the last one first. It stops at an error.
func (c *Client) Deliveries(ctx context.Context, id uuid.UUID) iter.Seq2[Delivery, error] {
	const size = 100
	return func(yield func(Delivery, error) bool) {
		for before := int64(0); ; {
			req, err := newListDeliveriesRequest(ctx, c.base, id, &listDeliveriesParams{Before: before, Limit: size})
			list, _, err := ask[DeliveryList](c, again, req, err)
			if err != nil {
				yield(Delivery{}, err)
				return
			}
			for i := range list.Deliveries {
				before = list.Deliveries[i].Number
				if !yield(list.Deliveries[i], nil) {
					return
				}
			}
			if len(list.Deliveries) < size || before == 1 {
				return
			}
		}
	}
}
