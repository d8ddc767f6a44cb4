package load

import (
	"slices"
	"testing"

	"passbook/test/faults/internal/oracle"
)

// TestReversalSteps reverses a transfer of 5 from a (position 7) to b (position 8) by either side.
func TestReversalSteps(t *testing.T) {
	t.Parallel()
	sent := movement{account: "a", other: "b", position: 7, amount: 500}
	step := func(account, kind, movement string, version, position int64) oracle.Step {
		return oracle.Step{
			Account: account, Kind: kind, Movement: movement, Moved: 500, Amount: 200, Fate: oracle.Applied,
			Version: version, Position: position,
		}
	}
	for name, test := range map[string]struct {
		reversed movement
		want     []oracle.Step
	}{
		"sent":     {sent, []oracle.Step{step("a", "give-back", "7", 3, 0), step("b", "take-back", "8", 0, 21)}},
		"received": {sent.otherSide(), []oracle.Step{step("b", "take-back", "8", 3, 0), step("a", "give-back", "7", 0, 21)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &command{kind: "reverse", account: test.reversed.account, reversed: test.reversed, amount: 200, fate: oracle.Applied}
			c.receipt.Version, c.receipt.Position, c.receipt.Amount = 3, 21, "2.00"
			if got := c.steps(0); !slices.Equal(got, test.want) {
				t.Errorf("steps %+v, want %+v", got, test.want)
			}
		})
	}
	if sent.otherSide().otherSide() != sent {
		t.Errorf("the other side of the other side is %+v", sent.otherSide().otherSide())
	}
}
