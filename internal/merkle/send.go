package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// sendTimeout limits one attempt to send a checkpoint, sendRetryMost the pause before the next one.
	sendTimeout   = 10 * time.Second
	sendRetryMost = time.Minute
	// idleFactor is how much less often an instance sends that is not the active one. It sends too, because the active one may have
	// ended before it sent the latest checkpoint.
	idleFactor = 6
)

// Sender sends the latest stored checkpoint to a place outside the database whenever it has changed. Receivers may get one twice, and not
// every one, but the latest arrives. A checkpoint is signed, so receivers need not trust the sender.
type Sender struct {
	Pool *pgxpool.Pool
	// To names the place in metrics and in the log.
	To string
	// Send sends a checkpoint.
	Send func(ctx context.Context, signed string) error
	// Active reports whether this instance is the one that signs or publishes now.
	Active func() bool
	// Every is how often the active instance looks for a new checkpoint; 0 means 10 s.
	Every  time.Duration
	Logger *slog.Logger

	mu     sync.Mutex
	status SendStatus
}

// SendStatus is what a Sender has done.
type SendStatus struct {
	// Size is how many events the last checkpoint that arrived covers, 0 before the first.
	Size int64
	// Error is why the last attempt failed; empty if it did not.
	Error string
}

// Status returns what the Sender has done.
func (s *Sender) Status() SendStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run sends until ctx ends, and returns nil.
func (s *Sender) Run(ctx context.Context) error {
	if s.Every == 0 {
		s.Every = 10 * time.Second
	}
	sent, retry, looked := "", retryFirst, time.Time{}
	for wait := retryFirst; sleep(ctx, wait); {
		if wait = s.Every; sent == "" {
			wait = min(wait, time.Second)
		}
		if !s.Active() && time.Since(looked) < idleFactor*s.Every {
			continue
		}
		signed, err := s.send(ctx, sent)
		if err == nil {
			sent, retry, looked = signed, retryFirst, time.Now()
			continue
		}
		wait, retry = retry, min(2*retry, sendRetryMost)
	}
	return nil
}

// send sends the stored checkpoint, unless it is the one that was sent last or there is none, and returns it.
func (s *Sender) send(ctx context.Context, sent string) (signed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	signed, _, err = store{s.Pool}.state(ctx)
	if err == nil && signed == sent {
		return sent, nil
	}
	var c Checkpoint
	if err == nil {
		if c, err = ParseCheckpoint(signed); err == nil {
			err = s.Send(ctx, signed)
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return sent, err // it is stopping
	}
	s.mu.Lock()
	failed := s.status.Error != ""
	s.status.Error = ""
	if err != nil {
		s.status.Error = err.Error()
	} else {
		s.status.Size = c.Size
	}
	s.mu.Unlock()
	switch {
	case err != nil && !failed:
		s.Logger.WarnContext(ctx, "a checkpoint of the log cannot be sent; retrying, and signing continues", "to", s.To, "error", err)
	case err == nil && failed:
		s.Logger.InfoContext(ctx, "checkpoints of the log are sent again", "to", s.To, "signed", c.Size)
	}
	return signed, err
}

// PostTo returns a function for Sender.Send that posts checkpoints to a URL as text. It follows no redirects. Its errors do not have the
// URL, which may contain a password.
func PostTo(to string) func(ctx context.Context, signed string) error {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, signed string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(signed))
		if err != nil {
			return errors.New("PASSBOOK_CHECKPOINT_URL is not a URL")
		}
		request.Header.Set("Content-Type", "text/plain; charset=utf-8")
		response, err := client.Do(request)
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		if err != nil {
			return fmt.Errorf("post a checkpoint: %w", err)
		}
		const most = 64 << 10 // enough to use the connection again
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, most))
		_ = response.Body.Close()
		if response.StatusCode < 200 || response.StatusCode > 299 {
			return fmt.Errorf("post a checkpoint: the response is %s", response.Status)
		}
		return nil
	}
}
