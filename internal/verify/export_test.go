package verify

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Within is Run in a transaction of the caller's.
func Within(ctx context.Context, tx pgx.Tx, limit int) (Report, error) {
	return within(ctx, tx, limit, nil)
}
