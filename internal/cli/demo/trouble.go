package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"passbook/client"
)

// The damage and its repair: the row claims to be one version ahead of its events, so that the next event does not follow
// it. No code of the service is involved.
const (
	damageSQL = `update balances set version = version + 1 where account_id = '%s'`
	repairSQL = `update balances set version = version - 1 where account_id = '%s'`
)

// execute runs a statement in the server's database, as an administrator might.
func (w *walk) execute(ctx context.Context, s *step, statement string) error {
	url, err := w.stage.databaseURL(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tag, err := conn.Exec(ctx, statement)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	w.did(s, &call{Command: `psql -c "` + statement + `"`, Answer: quoted(tag.String())})
	return nil
}

// failures returns the failures of balances.
func (w *walk) failures(ctx context.Context) ([]client.Failure, error) {
	var all []client.Failure
	for f, err := range w.client.Failures(ctx, "balances") {
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (w *walk) fail(ctx context.Context, s *step, _ *presenter) error {
	if err := w.execute(ctx, s, fmt.Sprintf(damageSQL, w.grace)); err != nil {
		return err
	}
	lost, err := w.write(ctx, s, "/deposits", movement(w.grace, "5.00"))
	if err != nil {
		return err
	}
	err = until(ctx, "the account is parked", func(ctx context.Context) (bool, error) {
		all, err := w.failures(ctx)
		return len(all) == 1 && all[0].Parked, err
	})
	if err != nil {
		return err
	}
	if _, err := w.get(ctx, s, "/projections/balances/failures"); err != nil {
		return err
	}
	all, err := w.failures(ctx)
	if err != nil {
		return err
	}
	w.parked = lost.Position
	s.expect("the failure names position, account and error", len(all) == 1 && all[0].Position == lost.Position &&
		all[0].AccountID == lost.AccountID && all[0].Error != nil, fmt.Sprintf("%+v", all))
	receipt, err := w.write(ctx, s, "/deposits", movement(w.ada, "1.00"))
	if err != nil {
		return err
	}
	if err := w.balance(ctx, s, "Ada, who is not affected,", w.ada, receipt.Position, "51.00"); err != nil {
		return err
	}
	return w.balance(ctx, s, "Grace, as of before the event,", w.grace, 0, "30.00")
}

// report is the part of the output of server verify --json that matters here.
type report struct {
	OK     bool  `json:"ok"`
	Head   int64 `json:"head"`
	Checks []struct {
		Name        string `json:"name"`
		Differences int64  `json:"differences"`
		Told        []struct {
			Item  string `json:"item"`
			Field string `json:"field"`
			Has   string `json:"has"`
			Want  string `json:"want"`
		} `json:"told"`
	} `json:"checks"`
}

func (w *walk) runVerify(ctx context.Context, s *step) (report, error) {
	var r report
	text, err := w.stage.verify(ctx)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("server verify: %w", err)
	}
	var said strings.Builder
	for _, c := range r.Checks {
		for _, d := range c.Told {
			fmt.Fprintf(&said, "DIFF %s: %s: %s is %s, should be %s\n", c.Name, d.Item, d.Field, d.Has, d.Want)
		}
	}
	fmt.Fprintf(&said, "%d events, %d checks", r.Head, len(r.Checks))
	if r.OK {
		said.WriteString(": nothing differs")
	}
	w.did(s, &call{Command: "PASSBOOK_DATA_DIR=" + w.stage.data() + " server verify", Answer: quoted(said.String())})
	return r, nil
}

func (w *walk) verifyDamaged(ctx context.Context, s *step, _ *presenter) error {
	r, err := w.runVerify(ctx, s)
	if err != nil {
		return err
	}
	named := false
	for _, c := range r.Checks {
		for _, d := range c.Told {
			named = named || strings.Contains(d.Item, w.grace) && d.Field == "version"
		}
	}
	s.expect("the version of Grace's row differs", !r.OK && named, fmt.Sprintf("%+v", r.Checks))
	return nil
}

func (w *walk) heal(ctx context.Context, s *step, _ *presenter) error {
	if err := w.execute(ctx, s, fmt.Sprintf(repairSQL, w.grace)); err != nil {
		return err
	}
	got, err := w.post(ctx, s, fmt.Sprintf("/projections/balances/failures/%d/retry", w.parked), "")
	if err != nil {
		return err
	}
	// The server may have retried it in between.
	s.expect("the retry is accepted", got.status == http.StatusAccepted || got.status == http.StatusNotFound, string(got.body))
	err = until(ctx, "nothing is parked", func(ctx context.Context) (bool, error) {
		all, err := w.failures(ctx)
		return len(all) == 0, err
	})
	if err != nil {
		return err
	}
	if got, err = w.get(ctx, s, "/projections/balances/failures"); err != nil {
		return err
	}
	s.expect("no failure is left", strings.Contains(string(got.body), `"failures":[]`), string(got.body))
	return w.balance(ctx, s, "Grace", w.grace, w.parked, "35.00")
}

// fill makes the log longer: deposits of a cent each into other accounts, many in a request.
func (w *walk) fill(ctx context.Context, s *step) error {
	const accounts, most = 50, 5_000
	ids := make([]uuid.UUID, accounts)
	commands := make([]client.Command, 0, most)
	for i := range ids {
		ids[i] = uuid.New()
		commands = append(commands, client.Command{Command: client.CommandOpen, AccountID: ids[i], Owner: "Saver " + strconv.Itoa(i+1), Currency: "EUR"})
	}
	for n := 0; n < w.deposits || len(commands) > 0; {
		for ; n < w.deposits && len(commands) < most; n++ {
			commands = append(commands, client.Command{Command: client.CommandDeposit, AccountID: ids[n%accounts], Amount: "0.01"})
		}
		results, err := w.client.RunAll(ctx, commands)
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Problem != nil {
				return r.Problem
			}
		}
		commands = commands[:0]
	}
	w.did(s, &call{
		Command: "curl -s '" + w.stage.base() + "/commands' -H 'Content-Type: application/x-ndjson' --data-binary @deposits.ndjson",
		Answer:  quoted(fmt.Sprintf("%d accounts opened, %d deposits made", accounts, w.deposits)),
	})
	return nil
}

// startReplay begins a replay of the balances.
func (w *walk) startReplay(ctx context.Context, s *step) (client.Replay, error) {
	var r client.Replay
	got, err := w.post(ctx, s, "/projections/balances/replay", "")
	if err != nil {
		return r, err
	}
	if got.status != http.StatusAccepted {
		return r, fmt.Errorf("replay: %d %s", got.status, got.body)
	}
	if err := json.Unmarshal(got.body, &r); err != nil {
		return r, fmt.Errorf("replay: %w", err)
	}
	return r, nil
}

// follow prints the progress of a replay, and returns it when it is over.
func (w *walk) follow(ctx context.Context, r *client.Replay, show *presenter) error {
	for next, err := range w.client.FollowReplay(ctx, r.Projection, r.ID) {
		if err != nil {
			return err
		}
		*r = next
		show.tell("%s: %d of %d events, %.0f a second", r.State, r.Processed, r.Total, r.Rate)
	}
	return nil
}

func (w *walk) replay(ctx context.Context, s *step, show *presenter) error {
	if err := w.fill(ctx, s); err != nil {
		return err
	}
	id, err := uuid.Parse(w.ada)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	var last int64
	if _, err := w.client.Balance(ctx, id, client.Applied(&last)); err != nil {
		return err
	}
	r, err := w.startReplay(ctx, s)
	if err != nil {
		return err
	}
	// A goroutine reads without pause until just after the swap.
	over := make(chan struct{})
	reads, wrong := 0, ""
	var reader errgroup.Group
	reader.Go(func() error {
		for done := false; !done; {
			select {
			case <-over:
				done = true // one more, of the new generation
			default:
			}
			var applied int64
			balance, err := w.client.Balance(ctx, id, client.Applied(&applied))
			if err != nil {
				return err
			}
			if balance.Balance != "51.00" || applied < last {
				wrong = fmt.Sprintf("%s at position %d after %d", balance.Balance, applied, last)
			}
			last = applied
			reads++
		}
		return nil
	})
	err = w.follow(ctx, &r, show)
	close(over)
	if err := errors.Join(err, reader.Wait()); err != nil {
		return err
	}
	s.expect("the replay is completed and has applied every event of the log", r.State == client.ReplayStateCompleted && r.Processed >= r.Total, fmt.Sprintf("%+v", r))
	s.expect(fmt.Sprintf("Ada was read %d times meanwhile: always 51.00, and never went back", reads), reads > 0 && wrong == "", wrong)
	return nil
}

func (w *walk) crash(ctx context.Context, s *step, show *presenter) error {
	r, err := w.startReplay(ctx, s)
	if err != nil {
		return err
	}
	key := "Idempotency-Key: before-the-crash"
	receipt, err := w.write(ctx, s, "/deposits", movement(w.grace, "0.65"), key)
	if err != nil {
		return err
	}
	pid := w.stage.child.Process.Pid
	if err := w.stage.kill(); err != nil {
		return err
	}
	w.did(s, &call{Command: fmt.Sprintf("kill -9 %d", pid)})
	if err := w.stage.start(ctx); err != nil {
		return err
	}
	w.did(s, &call{Command: "server", Answer: quoted("ready again")})
	if err := w.follow(ctx, &r, show); err != nil {
		return err
	}
	s.expect("the server resumed the replay and completed it", r.State == client.ReplayStateCompleted && r.Processed >= r.Total, fmt.Sprintf("%+v", r))
	repeated, err := w.write(ctx, s, "/deposits", movement(w.grace, "0.65"), key)
	if err != nil {
		return err
	}
	s.expect("the deposit, sent again with its key, has the same receipt", repeated == receipt, fmt.Sprintf("%+v", repeated))
	return w.balance(ctx, s, "Grace", w.grace, receipt.Position, "35.65")
}

func (w *walk) verify(ctx context.Context, s *step, _ *presenter) error {
	r, err := w.runVerify(ctx, s)
	if err != nil {
		return err
	}
	s.expect("nothing differs", r.OK, fmt.Sprintf("%+v", r.Checks))
	return nil
}
