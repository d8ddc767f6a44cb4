package merkle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"passbook/internal/eventstore"
	"passbook/internal/merkle"
)

// parseRecord reads a record as the documentation describes it. It fails if anything is left over.
func parseRecord(t interface{ Fatalf(string, ...any) }, b []byte) (e eventstore.Event, previous tlog.Hash) {
	next := func(n int) []byte {
		if len(b) < n {
			t.Fatalf("the record ends %d bytes early", n-len(b))
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	number := func() int64 { return int64(binary.BigEndian.Uint64(next(8))) }
	short := func() int { return int(binary.BigEndian.Uint32(next(4))) }
	if label := next(18); string(label) != "passbook event v1\n" {
		t.Fatalf("the record begins with %q", label)
	}
	e.Position = number()
	e.StreamID = uuid.UUID(next(16))
	e.Version = number()
	e.EventID = uuid.UUID(next(16))
	e.Type = string(next(short()))
	e.SchemaVersion = int(int32(short()))
	e.Payload = bytes.Clone(next(short()))
	e.Metadata = bytes.Clone(next(short()))
	e.RecordedAt = time.UnixMicro(number()).UTC()
	copy(previous[:], next(32))
	if len(b) > 0 {
		t.Fatalf("%d bytes follow the record", len(b))
	}
	return e, previous
}

func drawEvent(t *rapid.T) (eventstore.Event, tlog.Hash) {
	id := rapid.SliceOfN(rapid.Byte(), 16, 16)
	text := rapid.SliceOfN(rapid.Byte(), 0, 40)
	return eventstore.Event{
		Position: rapid.Int64().Draw(t, "position"), StreamID: uuid.UUID(id.Draw(t, "stream")), Version: rapid.Int64().Draw(t, "version"),
		EventID: uuid.UUID(id.Draw(t, "event")), Type: string(text.Draw(t, "type")), SchemaVersion: int(rapid.Int32().Draw(t, "schema")),
		Payload: text.Draw(t, "payload"), Metadata: text.Draw(t, "metadata"),
		RecordedAt: time.UnixMicro(rapid.Int64Range(-1<<55, 1<<55).Draw(t, "recorded")).UTC(),
	}, tlog.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "previous"))
}

// TestEncodingIsInjective reads back every record that it writes: so no two different events have the same record.
func TestEncodingIsInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e, previous := drawEvent(t)
		got, gotPrevious := parseRecord(t, merkle.AppendRecord(nil, &e, previous))
		if diff := cmp.Diff(e, got); diff != "" || gotPrevious != previous {
			t.Fatalf("the record is of another event: %s", diff)
		}
	})
}

// TestEncodingIsFixed keeps the format: hashes of logs that exist depend on it.
func TestEncodingIsFixed(t *testing.T) {
	t.Parallel()
	e := eventstore.Event{
		Position: 7, StreamID: uuid.UUID{1}, Version: 3, EventID: uuid.UUID{2}, Type: "MoneyDeposited", SchemaVersion: 1,
		Payload: []byte(`{"amount": "1234"}`), Metadata: []byte(`{}`), RecordedAt: time.UnixMicro(1_700_000_000_000_001),
	}
	record := merkle.AppendRecord(nil, &e, tlog.Hash{9})
	const want = "70617373626f6f6b206576656e742076310a" + "0000000000000007" + "01000000000000000000000000000000" + "0000000000000003" +
		"02000000000000000000000000000000" + "0000000e" + "4d6f6e65794465706f7369746564" + "00000001" +
		"00000012" + "7b22616d6f756e74223a202231323334227d" + "00000002" + "7b7d" + "00060a24181e4001" +
		"0900000000000000000000000000000000000000000000000000000000000000"
	if got := hex.EncodeToString(record); got != want {
		t.Errorf("the record is\n%s, want\n%s", got, want)
	}
}
