package auth_test

import (
	"testing"

	"passbook/internal/auth"
	"passbook/internal/pgtest"
)

// BenchmarkKey is what a request pays for its key once it is in use.
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
