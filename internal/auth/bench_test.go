package auth_test

import (
	"testing"

	"passbook/internal/auth"
	"passbook/internal/pgtest"
)

// BenchmarkKey measures the check of a key that is in memory.
func BenchmarkKey(b *testing.B) {
	pool := pgtest.New(b)
	_, text, err := auth.NewStore(pool).Create(b.Context(), "shop", auth.AccountsRead)
	if err != nil {
		b.Fatal(err)
	}
	k := keysOf(b, pool)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Authenticate(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}
