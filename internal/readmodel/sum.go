package readmodel

import (
	"math/big"
	"strconv"

	"passbook/internal/money"
)

// sum adds up minor units without a bound. A balance fits 64 bits by the rules of the domain; what moved in a batch or over an
// account's life may not, since money that comes in and goes out again counts twice.
type sum struct {
	small int64
	wide  *big.Int // the whole sum, once it has exceeded 64 bits
}

func (s *sum) add(minor int64) { s.change(minor, money.AddMinor, (*big.Int).Add) }

func (s *sum) sub(minor int64) { s.change(minor, money.SubMinor, (*big.Int).Sub) }

func (s *sum) change(minor int64, small func(a, b int64) (int64, bool), wide func(z, a, b *big.Int) *big.Int) {
	if s.wide == nil {
		if next, ok := small(s.small, minor); ok {
			s.small = next
			return
		}
		s.wide = big.NewInt(s.small)
	}
	wide(s.wide, s.wide, big.NewInt(minor))
}

// String returns the sum in decimal digits, the text form of a bigint or numeric.
func (s *sum) String() string {
	if s.wide != nil {
		return s.wide.String()
	}
	return strconv.FormatInt(s.small, 10)
}
