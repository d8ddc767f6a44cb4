// Command webhook receives the events that a Passbook sends, and verifies that it sent them.
//
//	WEBHOOK_SECRET=whsec_… go run ./examples/webhook 127.0.0.1:9000
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"passbook/client"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: webhook ADDRESS")
		os.Exit(2)
	}
	secret := os.Getenv("WEBHOOK_SECRET")
	if secret == "" { // the library would take it, and anybody could sign
		fmt.Fprintln(os.Stderr, "webhook: set WEBHOOK_SECRET to the secret that creating the webhook has returned")
		os.Exit(2)
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		server := &http.Server{Addr: os.Args[1], Handler: receive(hook, show), ReadTimeout: 10 * time.Second}
		err = server.ListenAndServe()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// receive returns a handler that passes each event to apply. apply must be safe to call twice with an event: remember its ID, or the
// highest Position that you have applied.
func receive(hook *standardwebhooks.Webhook, apply func(client.CloudEvent) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the body cannot be read", http.StatusBadRequest)
			return
		}
		if err := hook.Verify(body, r.Header); err != nil { // of the bytes as they came
			http.Error(w, "the signature is not valid", http.StatusUnauthorized)
			return
		}
		var event client.CloudEvent
		if err := json.Unmarshal(body, &event); err != nil {
			http.Error(w, "the body is no event", http.StatusBadRequest)
			return
		}
		if err := apply(event); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable) // it is sent again
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func show(event client.CloudEvent) error {
	_, err := fmt.Fprintln(os.Stdout, event.Position, event.Type, event.Subject)
	return err
}
