package query

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// cursor is the sort key of the last row shown: an owner and an account id, or else the position an account was
// opened at.
type cursor struct {
	byOwner  bool
	owner    string
	id       uuid.UUID
	position int64
}

// String is the cursor as callers get it. A letter says which order it is for; the owner comes last, since it may
// hold any character.
func (c cursor) String() string {
	text := "p" + strconv.FormatInt(c.position, 10)
	if c.byOwner {
		text = "o" + c.id.String() + "|" + c.owner
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseCursor is the inverse of String. It answers ErrBadCursor for every text that String does not make.
func parseCursor(text string) (cursor, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return cursor{}, ErrBadCursor
	}
	c := cursor{byOwner: raw[0] == 'o'}
	if key := string(raw[1:]); c.byOwner {
		var id string
		id, c.owner, _ = strings.Cut(key, "|")
		c.id, err = uuid.Parse(id)
	} else {
		c.position, err = strconv.ParseInt(key, 10, 64)
	}
	// The decoders above are lenient: about letter case, signs, forms of an id, stray bits and line breaks.
	if err != nil || !storable(c.owner) || c.String() != text {
		return cursor{}, ErrBadCursor
	}
	return c, nil
}
