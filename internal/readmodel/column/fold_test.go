package column_test

import (
	"testing"
	"unicode"

	"passbook/internal/readmodel/column"
)

func TestFoldName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                           "",
		"ada lovelace":               "ada lovelace",
		"Ada LOVELACE":               "ada lovelace",
		"Zoë":                        "zoe",
		"ZOE\u0308":                  "zoe",
		"Gauß & Söhne":               "gauss & sohne",
		"GAUSS":                      "gauss",
		"\ufb01ne":                   "fine",
		"Ἀθηνᾶ":                      "αθηνα",
		"İstanbul":                   "istanbul",
		"Łódź":                       "lodz",
		"SØREN Ærø ǾǼ":               "soren aero oae",
		"Đorđe Þór Ðað":              "dorde thor dad",
		"Œuvre Ħaż-Żebbuġ Ŧáŋŋá":     "oeuvre haz-zebbug tanna",
		"Əliyev Yıldız":              "eliyev yildiz",
		"Ɓala Ɗan Ƙofa Ɛsi Ɔkɔ Ɲaɣa": "bala dan kofa esi oko naga",
		"\uff21\uff22":               "ab",
		"山田 太郎":                      "山田 太郎",
		"'; drop -- %_\\ \U0001f600": "'; drop -- %_\\ \U0001f600",
	} {
		if got := column.FoldName(name); got != want {
			t.Errorf("%q is folded to %q, not %q", name, got, want)
		}
	}
}

// TestFoldNameTwice expects no folded character to fold further, nor the two cases of a letter to differ.
// It skips blocks without an assigned character.
func TestFoldNameTwice(t *testing.T) {
	t.Parallel()
	for block := rune(0); block < unicode.MaxRune; block += 256 {
		var runes, uppers []rune
		assigned := false
		for r := block; r < block+256; r++ {
			assigned = assigned || unicode.IsGraphic(r)
			if r != '\u0345' { // its capital is that of iota
				runes, uppers = append(runes, r, ' '), append(uppers, unicode.ToUpper(r), ' ')
			}
		}
		if !assigned {
			continue
		}
		once := column.FoldName(string(runes))
		if twice := column.FoldName(once); once != twice {
			t.Errorf("%U and following are folded to %q, and that to %q", block, once, twice)
		}
		if upper := column.FoldName(string(uppers)); once != upper {
			t.Errorf("%U and following are folded to %q, and their capitals to %q", block, once, upper)
		}
	}
}
