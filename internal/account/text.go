package account

import (
	"math"
	"strings"
	"unicode/utf8"
)

// Maximum lengths of the texts in commands, in characters (runes).
const (
	MaxOwnerLen = 200
	MaxTextLen  = 500 // references and reasons
)

const maxBalance = math.MaxInt64

// checkOwner returns the owner trimmed of white space.
func checkOwner(owner string) (string, error) {
	owner = strings.TrimSpace(owner)
	if owner == "" {
		return "", refuse(CodeTextEmpty, FieldOwner, "owner must not be empty")
	}
	return owner, checkText(FieldOwner, FieldOwner, owner, MaxOwnerLen)
}

// checkText refuses text that is too long, is not UTF-8, or contains NUL, which PostgreSQL's jsonb cannot store. The refusal is
// about field; what names the text in its detail.
func checkText(field, what, text string, most int) error {
	if text == "" {
		return nil
	}
	if len(text) > most && (len(text) > most*utf8.UTFMax || utf8.RuneCountInString(text) > most) {
		return refuse(CodeTextTooLong, field, "%s must not be longer than %d characters", what, most)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return refuse(CodeTextInvalid, field, "%s must not contain the NUL character", what)
	}
	if !utf8.ValidString(text) {
		return refuse(CodeTextInvalid, field, "%s must be valid UTF-8", what)
	}
	return nil
}
