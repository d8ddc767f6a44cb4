package readmodel

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The statements that remove the texts of accounts.
const (
	eraseTransactionsSQL = `update transactions set reference = '', metadata = null
where generation = $1 and account_id = any ($2) and (reference <> '' or metadata is not null)`

	eraseDetailsSQL = `update account_details set owner = '', metadata = null
where generation = $1 and account_id = any ($2) and (owner <> '' or metadata is not null)`

	eraseHoldsSQL = `update holds set reference = '', metadata = null
where generation = $1 and account_id = any ($2) and (reference <> '' or metadata is not null)`
)

// eraseText runs statements for the accounts that a batch erases.
func eraseText(ctx context.Context, tx pgx.Tx, generation int64, accounts [][16]byte, statements ...string) error {
	if len(accounts) == 0 {
		return nil
	}
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql, generation, accounts); err != nil {
			return fmt.Errorf("erase: %w", err)
		}
	}
	return nil
}
