package column

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// letters maps the lower-case Latin letters that occur in names, and that Unicode does not decompose, to their ASCII spelling
// (CLDR's Latin-ASCII). Package verify has the same map in SQL. ß is missing because case folding handles it.
var letters = strings.NewReplacer(
	"ø", "o", "ł", "l", "đ", "d", "ð", "d", "ħ", "h", "ı", "i", "ŧ", "t", "ŋ", "n", "ĸ", "q", "æ", "ae", "œ", "oe", "þ", "th",
	"ə", "e", "ɓ", "b", "ɗ", "d", "ɖ", "d", "ɛ", "e", "ɔ", "o", "ƙ", "k", "ɲ", "n", "ƴ", "y", "ɣ", "g",
)

// FoldName returns a name as in balances.owner_folded: decomposed (NFKD), without marks, case folded, and with the letters of
// letters replaced. Names that differ only in case and accents become equal. To change what it returns takes a new version of the
// projection.
func FoldName(name string) string {
	if isLowerASCII(name) {
		return name
	}
	// Transformers have state, so each call has its own.
	t := transform.Chain(norm.NFKD, runes.Remove(runes.In(unicode.Mn)), cases.Fold())
	folded, _, _ := transform.String(t, name) // none of the transformers returns an error
	folded = strings.ToLower(folded)          // cases folds Cherokee the wrong way round
	return letters.Replace(folded)
}

func isLowerASCII(s string) bool {
	for _, c := range []byte(s) {
		if c >= 0x80 || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}
