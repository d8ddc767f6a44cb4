package demo

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"passbook/client"
)

func (w *walk) start(ctx context.Context, s *step, show *presenter) error {
	w.show = show
	began := time.Now()
	if err := w.stage.start(ctx); err != nil {
		return err
	}
	w.did(s, &call{
		Command: fmt.Sprintf("PASSBOOK_DATA_DIR=%s PASSBOOK_ADDR=%s server", w.stage.data(), w.stage.addr),
		Answer:  quoted(fmt.Sprintf("ready after %.1f s, including making the database", time.Since(began).Seconds())),
	})
	var err error
	if w.client, err = client.New(w.stage.base(), client.WithReadYourWrites(), client.WithRetryFor(time.Minute)); err != nil {
		return err
	}
	got, err := w.get(ctx, s, "/readyz")
	if err != nil {
		return err
	}
	s.expect("it is ready", got.text("status") == "ok", string(got.body))
	return nil
}

func (w *walk) openAccounts(ctx context.Context, s *step, _ *presenter) error {
	ada, err := w.write(ctx, s, "/accounts", `{"owner":"Ada","currency":"EUR"}`)
	if err != nil {
		return err
	}
	grace, err := w.write(ctx, s, "/accounts", `{"owner":"Grace","currency":"EUR"}`)
	if err != nil {
		return err
	}
	w.ada, w.grace = ada.AccountID.String(), grace.AccountID.String()
	s.expect("their positions are 1 and 2", ada.Position == 1 && grace.Position == 2, fmt.Sprintf("%d and %d", ada.Position, grace.Position))
	return nil
}

func movement(account, amount string) string {
	return `{"account_id":"` + account + `","amount":"` + amount + `"}`
}

func (w *walk) deposit(ctx context.Context, s *step, _ *presenter) (err error) {
	w.first, err = w.write(ctx, s, "/deposits", movement(w.ada, "100.00"))
	return err
}

func (w *walk) readYourWrite(ctx context.Context, s *step, _ *presenter) error {
	return w.balance(ctx, s, "Ada", w.ada, w.first.Position, "100.00")
}

func (w *walk) sameKey(ctx context.Context, s *step, _ *presenter) error {
	body, key := `{"account_id":"`+w.ada+`","amount":"20.00","reference":"rent"}`, []string{"Idempotency-Key: rent-2026-11"}
	var answers []*reply
	for range 2 {
		got, err := w.send(ctx, s, http.MethodPost, "/withdrawals", body, key, []string{"Idempotency-Replayed"})
		if err != nil {
			return err
		}
		answers = append(answers, got)
	}
	s.expect("the responses are the same", answers[0].status == http.StatusCreated && bytes.Equal(answers[0].body, answers[1].body), string(answers[1].body))
	s.expect("the second is marked as replayed", answers[1].header.Get("Idempotency-Replayed") == "true", "no")
	position, err := strconv.ParseInt(answers[1].text("position"), 10, 64)
	if err != nil {
		return fmt.Errorf("position: %w", err)
	}
	return w.balance(ctx, s, "Ada", w.ada, position, "80.00")
}

func (w *walk) refusal(ctx context.Context, s *step, _ *presenter) error {
	got, err := w.post(ctx, s, "/withdrawals", movement(w.ada, "1000.00"))
	if err != nil {
		return err
	}
	s.expect("422, insufficient-funds", got.status == http.StatusUnprocessableEntity && got.text("code") == "insufficient-funds", string(got.body))
	if got, err = w.post(ctx, s, "/deposits", movement(w.ada, "0.001")); err != nil {
		return err
	}
	s.expect("an amount with too many decimals is refused by name", got.status == http.StatusUnprocessableEntity &&
		bytes.Contains(got.body, []byte(`"pointer":"/amount"`)), string(got.body))
	return nil
}

func (w *walk) transfer(ctx context.Context, s *step, _ *presenter) error {
	body := `{"from_account_id":"` + w.ada + `","to_account_id":"` + w.grace + `","amount":"30.00","reference":"half of dinner"}`
	receipt, err := w.write(ctx, s, "/transfers", body)
	if err != nil {
		return err
	}
	w.second = receipt
	if err := w.balance(ctx, s, "Ada", w.ada, receipt.Position, "50.00"); err != nil {
		return err
	}
	return w.balance(ctx, s, "Grace", w.grace, receipt.Position, "30.00")
}

func (w *walk) timeTravel(ctx context.Context, s *step, _ *presenter) error {
	at := url.QueryEscape(w.first.RecordedAt.UTC().Format("2006-01-02T15:04:05.000000Z"))
	for _, query := range []string{fmt.Sprintf("at_position=%d", w.first.Position), "at=" + at} {
		got, err := w.get(ctx, s, "/accounts/"+w.ada+"/balance?"+query)
		if err != nil {
			return err
		}
		s.expect("Ada had 100.00 then", got.text("balance") == "100.00", string(got.body))
	}
	return nil
}
