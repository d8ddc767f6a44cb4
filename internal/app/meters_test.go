package app

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/account"
	"passbook/internal/command"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		&account.Refusal{}:                           refused,
		&command.VersionError{}:                      refused,
		account.ErrNotFound:                          refused,
		account.ErrExists:                            refused,
		command.ErrKeyReused:                         refused,
		command.ErrKeyInFlight:                       refused,
		command.ErrOverloaded:                        overloaded,
		command.ErrUnavailable:                       failed,
		&command.RefusedBeforeError{}:                replayed,
		context.Canceled:                             failed,
		context.DeadlineExceeded:                     failed,
		fmt.Errorf("disk on fire"):                   failed,
		&command.ItemError{Err: account.ErrNotFound}: refused,
		account.ErrTransferExists:                    refused,
	} {
		if got := outcomeOf(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %s, want %s", err, outcomeNames[got], outcomeNames[want])
		}
	}
}

// BenchmarkCommandMeter measures what counting costs a command.
func BenchmarkCommandMeter(b *testing.B) {
	m := newCommandMeter(prometheus.NewRegistry())
	for b.Loop() {
		m.settled(account.Deposit{}, false, nil)
	}
}
