package readmodel

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
)

const (
	lastDetailsSQL = `select u.id, d.owner, d.currency, d.overdraft_limit, d.metadata
from unnest($2::uuid[]) as u(id)
cross join lateral (select owner, currency, overdraft_limit, metadata from account_details
    where generation = $1 and account_id = u.id order by position desc limit 1) as d`

	insertDetailsSQL = `insert into account_details (generation, account_id, position, owner, currency, overdraft_limit, metadata)
select $1, u.* from unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]::jsonb[]) as u`
)

// details are a row of account_details.
type details struct {
	owner, currency string
	overdraft       int64
	metadata        account.Metadata
}

// detailsChange turns a row into the next one.
type detailsChange struct {
	position int64
	set      func(*details)
}

// flushDetails writes a row for each change of the details of an account. Few batches contain one.
func (t *transactions) flushDetails(ctx context.Context, tx pgx.Tx, generation int64) error {
	var changed []*ledger
	for _, l := range t.ledgers {
		if len(l.changes) > 0 {
			changed = append(changed, l)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.SortFunc(changed, func(a, b *ledger) int { return bytes.Compare(a.id[:], b.id[:]) })
	last, err := lastDetails(ctx, tx, generation, changed)
	if err != nil {
		return err
	}
	var (
		ids                   [][16]byte
		positions, overdrafts []int64
		owners, currencies    []string
		metadata              []*string
	)
	for _, l := range changed {
		d := last[l.id]
		for _, change := range l.changes {
			change.set(&d)
			ids = append(ids, l.id)
			positions = append(positions, change.position)
			owners = append(owners, d.owner)
			currencies = append(currencies, d.currency)
			overdrafts = append(overdrafts, d.overdraft)
			metadata = append(metadata, metadataText(d.metadata))
		}
	}
	_, err = tx.Exec(ctx, insertDetailsSQL, generation, ids, positions, owners, currencies, overdrafts, metadata)
	return err
}

// lastDetails reads the details before the batch, of the accounts that it does not open.
func lastDetails(ctx context.Context, tx pgx.Tx, generation int64, of []*ledger) (map[uuid.UUID]details, error) {
	var ids [][16]byte
	for _, l := range of {
		if !l.opened {
			ids = append(ids, l.id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, _ := tx.Query(ctx, lastDetailsSQL, generation, ids)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[detailsRow])
	if err == nil && len(found) < len(ids) {
		err = fmt.Errorf("%d of %d accounts have no row, although their events are not the first", len(ids)-len(found), len(ids))
	}
	last := make(map[uuid.UUID]details, len(found))
	for _, r := range found {
		last[r.AccountID] = details{r.Owner, r.Currency, r.Overdraft, account.NewMetadata(r.Metadata)}
	}
	return last, err
}

// detailsRow is a row of lastDetailsSQL.
type detailsRow struct {
	AccountID       uuid.UUID
	Owner, Currency string
	Overdraft       int64
	Metadata        map[string]string
}
