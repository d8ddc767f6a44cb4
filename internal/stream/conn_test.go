package stream_test

import (
	"testing"

	"passbook/internal/stream"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"nats://a:4222": "nats://a:4222",
		"nats://user:secret@a:4222,tls://token@b:4222":  "nats://a:4222,tls://b:4222",
		"nats://a:4222,nats://user:se cret%zz@b:4222/x": "nats://a:4222,(unreadable)",
	} {
		if got := stream.Redact(urls); got != want {
			t.Errorf("%s: %s", urls, got)
		}
	}
}
