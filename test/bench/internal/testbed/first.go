package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Start is how long a server took from the start of its process.
type Start struct {
	// Live is until it first responded to /livez, Command until it had opened an account.
	Live, Command time.Duration
}

// FirstAnswer starts the server with a private PostgreSQL in dataDir (a name, within the Testbed's directory), waits for its
// first responses, and stops it.
func (s *Testbed) FirstAnswer(ctx context.Context, dataDir string) (_ Start, err error) {
	p, err := s.launch(ctx, nil, "PASSBOOK_DATA_DIR="+s.path(dataDir))
	if err != nil {
		return Start{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var st Start
	// Polled more often than elsewhere, since the time of the response is the measurement.
	const every = 2 * time.Millisecond
	if err := p.await(ctx, every, func() bool { return p.status(ctx, "/livez") == http.StatusOK }); err != nil {
		return st, fmt.Errorf("the server did not answer /livez: %w: %s", err, p.logTail())
	}
	st.Live = time.Since(p.started)
	err = p.await(ctx, every, func() bool {
		status, _, err := p.do(ctx, http.MethodPost, "/accounts", `{"owner":"Ada Lovelace","currency":"EUR"}`)
		return err == nil && status == http.StatusCreated
	})
	if err != nil {
		return st, fmt.Errorf("the server did not open an account: %w: %s", err, p.logTail())
	}
	st.Command = time.Since(p.started)
	return st, nil
}
