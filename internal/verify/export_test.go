package verify

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Within is Run within the caller's transaction.
func Within(ctx context.Context, tx pgx.Tx, limit int) (Report, error) {
	return within(ctx, tx, limit, nil)
}
