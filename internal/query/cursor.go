package query

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// cursor is the sort key of the last row of a page: an owner and an account id, or the position an account was opened at.
type cursor struct {
	list     listID
	byOwner  bool
	owner    string
	id       uuid.UUID
	position int64
}

// listID identifies a list of accounts: a hash of what selects and orders it.
type listID [8]byte

func listOf(f ListFilter) (id listID) {
	f.Cursor, f.Limit, f.Count = "", 0, false // pages of any size are of the same list
	f.Sort = cmp.Or(f.Sort, "opened_at")
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", f))
	copy(id[:], sum[:])
	return id
}

// String returns the cursor as callers get it. It begins with the list and a letter for the order; the owner comes last,
// since it may hold any character.
func (c cursor) String() string {
	text := "p" + strconv.FormatInt(c.position, 10)
	if c.byOwner {
		text = "o" + c.id.String() + "|" + c.owner
	}
	return base64.RawURLEncoding.EncodeToString(append(c.list[:], text...))
}

// parseCursor is the inverse of String. It returns ErrBadCursor for every text that String does not make.
func parseCursor(text string) (cursor, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) <= len(listID{}) {
		return cursor{}, ErrBadCursor
	}
	c := cursor{list: listID(raw)}
	raw = raw[len(c.list):]
	c.byOwner = raw[0] == 'o'
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
