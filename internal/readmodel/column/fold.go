package column

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// FoldName returns a name as it is in balances.owner_folded: decomposed (NFKD), without marks, and case folded. Names that
// differ only in case and accents are equal then.
func FoldName(name string) string {
	if isLowerASCII(name) {
		return name
	}
	// Transformers have state, so each call has its own.
	t := transform.Chain(norm.NFKD, runes.Remove(runes.In(unicode.Mn)), cases.Fold())
	folded, _, _ := transform.String(t, name) // none of the transformers returns an error
	return strings.ToLower(folded)            // cases folds Cherokee the wrong way round
}

func isLowerASCII(s string) bool {
	for _, c := range []byte(s) {
		if c >= 0x80 || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}
