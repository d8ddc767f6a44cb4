package merkle_test

import (
	"testing"

	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
