package main

import (
	"context"
	"errors"
	"fmt"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
)

// balanceScript is the statement of internal/query for one account (accountSQL).
const balanceScript = `\set account random(1, %d)
select p.position, b.account_id, b.owner, b.currency, b.balance, b.overdraft_limit, b.deposited::text, b.withdrawn::text,
       b.status, b.version, b.position, b.opened_at, b.updated_at, b.closed_at
from projections p left join balances b on b.generation = p.generation
     and b.account_id = ('00000000-0000-4000-8000-' || lpad(to_hex(:account::bigint), 12, '0'))::uuid
where p.id = 'balances';
`

// balances is P3, with a bare handler and pgbench as baselines.
func (b *bench) balances(ctx context.Context) (lines []report.Line, err error) {
	http := report.Line{
		ID: "P3 HTTP", What: "GET /accounts/{id}/balance", Versus: "a bare chi handler", Unit: "/s",
		Rule: report.Rule{Must: 0.55, Goal: 0.8},
	}
	pg := report.Line{
		ID: "P3 pg", What: http.What, Versus: "pgbench SELECT", Unit: "/s", Rule: report.Rule{Must: 0.5, Goal: 1},
	}
	handler, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, handler.Stop()) }()
	at, err := b.open(ctx, "p3", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	// Balances with deposits, in tables that have been vacuumed and analysed.
	writes := &subject{site: at, load: b.depositLoad()}
	if err := writes.warm(ctx); err != nil {
		return nil, err
	}
	if _, err := at.server.CatchUp(ctx, catchUpTimeout); err != nil {
		return nil, err
	}
	if err := b.testbed.Exec(ctx, at.db, "vacuum analyze balances", "vacuum analyze projections"); err != nil {
		return nil, err
	}
	s := &subject{site: at, load: load.Config{Mode: load.Balance, Conns: b.clients, Accounts: b.accounts}}
	if err := s.warm(ctx); err != nil {
		return nil, err
	}
	script := fmt.Sprintf(balanceScript, b.accounts)
	err = b.alternate(ctx, b.pgbench(at.db, script, b.clients, 1, &pg.Baseline), b.bare(handler, s.load, &http.Baseline), s.turn("balances"))
	if err != nil {
		return nil, err
	}
	s.fill(&http)
	pg.Measured = s.seen.rate
	return []report.Line{http, pg}, nil
}

// visibility is P4.
func (b *bench) visibility(ctx context.Context) (lines []report.Line, err error) {
	at, err := b.open(ctx, "p4", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	s := &subject{site: at, load: b.depositLoad()}
	if err := s.warm(ctx); err != nil {
		return nil, err
	}
	if b.depositRate == 0 { // P1 was not asked for
		if err := s.round(ctx); err != nil {
			return nil, err
		}
		b.depositRate = s.seen.rate.Median()
		s.seen = rounds{}
	}
	s.load.Mode, s.load.Rate = load.Visible, b.depositRate/2
	err = b.alternate(ctx, func(ctx context.Context) (string, error) {
		said, err := s.turn("paced deposits")(ctx)
		if err == nil && len(s.seen.visible99) < len(s.seen.rate) {
			err = errors.New("nothing became visible")
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, visible after p99 %.2f ms", said, s.seen.visible99[len(s.seen.visible99)-1]), nil
	})
	if err != nil {
		return nil, err
	}
	line := report.Line{ID: "P4", What: "commit → visible, p99, at half of P1's rate", Unit: "ms"}
	s.fill(&line)
	line.Measured, line.Rule = s.seen.visible99, report.Rule{Must: 25, Goal: 10, OfValue: true, AtMost: true}
	line.Notes = append(line.Notes, fmt.Sprintf(
		"p50 %.2f ms; %.0f deposits a second were asked for and %.0f made; the latencies in the table are of those deposits",
		s.seen.visible50.Median(), s.load.Rate, s.seen.rate.Median()))
	return []report.Line{line}, nil
}
