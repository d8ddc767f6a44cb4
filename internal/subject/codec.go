package subject

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/arena"
	"passbook/internal/eventstore"
)

// Codec is an eventstore.Codec that keeps personal text in sealed boxes.
type Codec struct {
	keys     *Keys
	perEvent bool
}

// NewCodec returns a Codec.
func NewCodec(keys *Keys) *Codec { return &Codec{keys: keys} }

// PerEvent returns a Codec whose Open reports why an event does not open in the event's Err, and opens the others.
func (c *Codec) PerEvent() *Codec { return &Codec{keys: c.keys, perEvent: true} }

// personal are the members of payloads and of snapshots that are sealed, as they are written. In a text a quote is escaped, so that
// they occur only as names.
var personal = [][]byte{[]byte(`"owner":`), []byte(`"reference":`), []byte(`"reason":`), []byte(`"metadata":`)}

func isPersonal(json []byte) bool {
	for _, name := range personal {
		if bytes.Contains(json, name) {
			return true
		}
	}
	return false
}

// A box stands in a payload or a snapshot between these, with the subject in the middle: as PostgreSQL returns jsonb, whatever its
// spacing was. No text can contain them, because its quotes are escaped.
const (
	boxBegin   = `"sealed": {"box": "`
	boxMiddle  = `", "subject": "`
	boxEnd     = `"}`
	idLength   = 36
	stateBegin = `"state":{"state_version":`
)

// place is what a box is a part of.
type place string

const (
	inPayload  place = "payload"
	inSnapshot place = "snapshot"
)

// associated returns what a box is bound to: moved to another event or another place, it does not open.
func associated(stream uuid.UUID, version int64, eventType string, p place) []byte {
	b := append(make([]byte, 0, 96), "passbook box v1 "...)
	b = append(b, stream[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(version)) //nolint:gosec // a version is positive
	b = append(append(b, p...), 0)
	return append(b, eventType...)
}

// Seal implements eventstore.Codec. It waits for at most keysTimeout.
func (c *Codec) Seal(ctx context.Context, events []eventstore.NewEvent) error {
	var ids []uuid.UUID
	for i := range events {
		if hasText(&events[i]) {
			ids = append(ids, subjectOf(&events[i]))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	keys := c.keys.get(ctx, ids, true)
	if len(keys.failed) > 0 {
		unsealed := make(eventstore.UnsealedError)
		for i := range events {
			if e := &events[i]; hasText(e) && keys.failed[subjectOf(e)] != nil {
				unsealed[e.StreamID] = keys.failed[subjectOf(e)]
			}
		}
		return unsealed
	}
	for i := range events {
		if err := sealEvent(&events[i], keys.found); err != nil {
			return fmt.Errorf("subject: seal %s: %w", events[i].Type, err)
		}
	}
	return nil
}

// hasText reports whether an event has something to seal.
func hasText(e *eventstore.NewEvent) bool {
	return isPersonal(e.Payload) || bytes.Contains(e.Metadata, []byte(stateBegin))
}

func subjectOf(e *eventstore.NewEvent) uuid.UUID {
	if e.SubjectID == uuid.Nil {
		return e.StreamID
	}
	return e.SubjectID
}

func sealEvent(e *eventstore.NewEvent, keys map[uuid.UUID]cipher.AEAD) (err error) {
	id := subjectOf(e)
	if isPersonal(e.Payload) {
		e.Payload, err = sealObject(e.Payload, keys[id], id, associated(e.StreamID, e.Version, e.Type, inPayload), erased(e.Type))
		if err != nil {
			return err
		}
	}
	// The snapshot is the last member of the metadata.
	if at := bytes.Index(e.Metadata, []byte(stateBegin)); at >= 0 {
		at += len(`"state":`)
		state, err := sealObject(e.Metadata[at:len(e.Metadata)-1], keys[id], id, associated(e.StreamID, e.Version, e.Type, inSnapshot), erasedState)
		if err != nil {
			return err
		}
		e.Metadata = append(append(bytes.Clone(e.Metadata[:at]), state...), '}')
	}
	return nil
}

// sealObject moves the personal members of a JSON object, if it has any, into a box. Without a key it replaces them by marker.
func sealObject(object []byte, key cipher.AEAD, id uuid.UUID, associated []byte, marker string) ([]byte, error) {
	rest, text := make([]byte, 0, len(object)+160), make([]byte, 0, len(object))
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if begin, err := d.ReadToken(); err != nil || begin.Kind() != jsontext.KindBeginObject {
		return nil, errors.Join(errors.New("it is not an object"), err)
	}
	for d.PeekKind() == jsontext.KindString {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		to, quoted := &rest, string(name) // valid only until the next read
		switch quoted {
		case `"` + account.FieldOwner + `"`, `"` + account.FieldReference + `"`, `"` + account.FieldReason + `"`, `"` + account.FieldMetadata + `"`:
			to = &text
		}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if len(*to) > 0 {
			*to = append(*to, ',')
		}
		*to = append(append(append(*to, quoted...), ':'), value...)
	}
	if len(text) == 0 {
		return object, nil
	}
	if len(rest) > 0 {
		rest = append(rest, ',')
	}
	if key == nil {
		rest = append(rest, marker...)
	} else {
		rest = base64.RawStdEncoding.AppendEncode(append(rest, boxBegin...), seal(key, nil, text, associated))
		rest = append(append(append(rest, boxMiddle...), id.String()...), boxEnd...)
	}
	return append(append([]byte{'{'}, rest...), '}'), nil
}

// erased returns what stands in a payload instead of a text whose key is gone: a mark, and the members that the type needs.
func erased(eventType string) string {
	switch eventType {
	case account.TypeAccountCreated, account.TypeOwnerChanged:
		return `"erased": true, "owner": ""`
	case account.TypeMetadataChanged:
		return `"erased": true, "metadata": {}`
	}
	return `"erased": true`
}

// erasedState stands in a snapshot. There, "erased" means that the log has SubjectErased.
const erasedState = `"owner": ""`

// Open implements eventstore.Codec. It waits for at most keysTimeout, and without fetch not at all.
func (c *Codec) Open(ctx context.Context, events []eventstore.Event, fetch bool) error {
	var ids []uuid.UUID
	for i := range events {
		for _, text := range [][]byte{events[i].Payload, events[i].Metadata} {
			if b, found, err := findBox(text); found && err == nil {
				ids = append(ids, b.subject)
			}
		}
	}
	var keys keys
	if len(ids) > 0 {
		keys = c.keys.lookUp(ctx, ids, fetch)
	}
	for i := range events {
		e := &events[i]
		err := cmp.Or(
			openText(&e.Payload, keys, associated(e.StreamID, e.Version, e.Type, inPayload), erased(e.Type)),
			openText(&e.Metadata, keys, associated(e.StreamID, e.Version, e.Type, inSnapshot), erasedState))
		if err == nil {
			continue
		}
		e.Err = fmt.Errorf("subject: event at position %d: %w", e.Position, err)
		if !c.perEvent {
			return e.Err
		}
	}
	return nil
}

// chunk is how many events OpenEach opens at once, so that their keys are fetched together.
const chunk = 256

// OpenEach implements eventstore.Codec.
func (c *Codec) OpenEach(ctx context.Context, each func(*eventstore.Event) error) (add func(*eventstore.Event) error, flush func() error) {
	var texts arena.Arena
	var events []eventstore.Event
	flush = func() error {
		err := c.Open(ctx, events, true)
		for i := 0; err == nil && i < len(events); i++ {
			err = each(&events[i])
		}
		events = events[:0]
		return err
	}
	add = func(e *eventstore.Event) error {
		kept := *e
		kept.Payload, kept.Metadata = texts.Hold(e.Payload), texts.Hold(e.Metadata)
		if events = append(events, kept); len(events) < chunk {
			return nil
		}
		return flush()
	}
	return add, flush
}

// box is a box in a text, which it and its tags take from begin to end.
type box struct {
	begin, end int
	subject    uuid.UUID
	base64     []byte
}

func findBox(text []byte) (b box, found bool, err error) {
	begin := bytes.Index(text, []byte(boxBegin))
	if begin < 0 {
		return b, false, nil
	}
	inside, rest, ok := bytes.Cut(text[begin+len(boxBegin):], []byte(boxMiddle))
	if !ok || len(rest) < idLength+len(boxEnd) || string(rest[idLength:idLength+len(boxEnd)]) != boxEnd {
		return b, false, errBox
	}
	id, err := uuid.ParseBytes(rest[:idLength])
	if err != nil {
		return b, false, errBox
	}
	end := begin + len(boxBegin) + len(inside) + len(boxMiddle) + idLength + len(boxEnd)
	return box{begin: begin, end: end, subject: id, base64: inside}, true, nil
}

// openText replaces the box in a JSON text, if there is one, by what is in it. If the key is gone, or it does not open, it replaces it by
// marker.
func openText(text *[]byte, keys keys, associated []byte, marker string) error {
	b, found, err := findBox(*text)
	if err != nil || !found {
		return err
	}
	inside := []byte(marker)
	if key := keys.found[b.subject]; key != nil {
		sealed := make([]byte, base64.RawStdEncoding.DecodedLen(len(b.base64)))
		if _, err = base64.RawStdEncoding.Decode(sealed, b.base64); err != nil {
			err = errBox
		} else if opened, failed := open(key, sealed, associated); failed != nil {
			err = failed
		} else {
			inside = opened
		}
	}
	opened := append(make([]byte, 0, len(*text)), (*text)[:b.begin]...)
	*text = append(append(opened, inside...), (*text)[b.end:]...)
	return cmp.Or(err, keys.failed[b.subject])
}
