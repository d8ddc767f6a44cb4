package arena_test

import (
	"strings"
	"testing"

	"passbook/internal/arena"
)

// TestHold expects copies that do not touch each other, whatever their sizes.
func TestHold(t *testing.T) {
	t.Parallel()
	var a arena.Arena
	var want []string
	var got [][]byte
	for i := range 2000 {
		text := strings.Repeat(string(rune('a'+i%26)), i*i%5000)
		source := []byte(text)
		want, got = append(want, text), append(got, a.Hold(source))
		clear(source)
	}
	for i := range got {
		_ = append(got[i], "beyond its end"...)
	}
	for i := range got {
		if string(got[i]) != want[i] {
			t.Fatalf("text %d has changed", i)
		}
	}
	if a.Hold(nil) != nil {
		t.Error("nil has become a text")
	}
}

// TestReset expects memory to be used again.
func TestReset(t *testing.T) {
	t.Parallel()
	var a arena.Arena
	one := a.Hold([]byte("one"))
	a.Reset()
	if two := a.Hold([]byte("two")); string(two) != "two" || &one[0] != &two[0] {
		t.Errorf("%q is not in the place of %q", two, one)
	}
}
