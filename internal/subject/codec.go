package subject

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// Codec is an eventstore.Codec that keeps personal text in sealed boxes.
type Codec struct{ keys *Keys }

// NewCodec returns a Codec.
func NewCodec(keys *Keys) *Codec { return &Codec{keys} }

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

// Seal implements eventstore.Codec.
func (c *Codec) Seal(ctx context.Context, events []eventstore.NewEvent) error {
	var ids []uuid.UUID
	for i := range events {
		if e := &events[i]; isPersonal(e.Payload) || bytes.Contains(e.Metadata, []byte(stateBegin)) {
			ids = append(ids, subjectOf(e))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	keys, err := c.keys.get(ctx, ids, true)
	if err != nil {
		return err
	}
	for i := range events {
		if err := sealEvent(&events[i], keys); err != nil {
			return fmt.Errorf("subject: seal %s: %w", events[i].Type, err)
		}
	}
	return nil
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

// Open implements eventstore.Codec.
func (c *Codec) Open(ctx context.Context, events []eventstore.Event) error {
	var ids []uuid.UUID
	for i := range events {
		for _, text := range [][]byte{events[i].Payload, events[i].Metadata} {
			b, found, err := findBox(text)
			if err != nil {
				return fmt.Errorf("subject: event at position %d: %w", events[i].Position, err)
			}
			if found {
				ids = append(ids, b.subject)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	keys, err := c.keys.get(ctx, ids, false)
	if err != nil {
		return err
	}
	for i := range events {
		e := &events[i]
		if e.Payload, err = openText(e.Payload, keys, associated(e.StreamID, e.Version, e.Type, inPayload), erased(e.Type)); err == nil {
			e.Metadata, err = openText(e.Metadata, keys, associated(e.StreamID, e.Version, e.Type, inSnapshot), erasedState)
		}
		if err != nil {
			return fmt.Errorf("subject: event at position %d: %w", e.Position, err)
		}
	}
	return nil
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

// openText replaces the box in a JSON text, if there is one, by what is in it, or by marker if the key is gone.
func openText(text []byte, keys map[uuid.UUID]cipher.AEAD, associated []byte, marker string) ([]byte, error) {
	b, found, err := findBox(text)
	if err != nil || !found {
		return text, err
	}
	inside := []byte(marker)
	if key := keys[b.subject]; key != nil {
		sealed := make([]byte, base64.RawStdEncoding.DecodedLen(len(b.base64)))
		if _, err := base64.RawStdEncoding.Decode(sealed, b.base64); err != nil {
			return nil, errBox
		}
		if inside, err = open(key, sealed, associated); err != nil {
			return nil, err
		}
	}
	opened := append(make([]byte, 0, len(text)), text[:b.begin]...)
	return append(append(opened, inside...), text[b.end:]...), nil
}
