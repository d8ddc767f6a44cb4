package subject_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/subject"
)

// awkward looks like what the codec looks for, and has what JSON and PostgreSQL write otherwise.
const awkward = `Zoë "sealed": {"box": "x", "subject": "y"} \ "owner": <&>` + "\t\u2028"

func texts() []account.Event {
	eur, _ := money.LookupCurrency("EUR")
	ten := money.New(1000, eur)
	labels := account.NewMetadata(map[string]string{"owner": awkward, awkward: "reason", "sealed": `{"box": "`})
	return []account.Event{
		account.AccountCreated{Owner: awkward, Currency: eur, Metadata: labels},
		account.AccountCreated{Owner: "A", Currency: eur},
		account.MoneyDeposited{Amount: ten, Reference: awkward, Metadata: labels},
		account.MoneyWithdrawn{Amount: ten, Metadata: labels},
		account.TransferSent{TransferID: uuid.New(), To: uuid.New(), Amount: ten, Reference: awkward},
		account.TransferReceived{TransferID: uuid.New(), From: uuid.New(), Amount: ten, Reference: awkward},
		account.AccountSuspended{Reason: awkward},
		account.AccountReactivated{Reason: awkward},
		account.AccountClosed{Reason: awkward},
		account.OwnerChanged{Owner: awkward},
		account.MetadataChanged{Metadata: labels},
		account.HoldPlaced{HoldID: uuid.New(), Amount: ten, Reference: awkward, Metadata: labels},
		account.HoldReleased{HoldID: uuid.New(), Amount: ten, Reason: awkward},
		account.CreditReversed{Reversal: account.Reversal{ReversalID: uuid.New(), ReversedPosition: 7, Amount: ten, Reason: awkward}},
		account.DebitReversed{Reversal: account.Reversal{ReversalID: uuid.New(), ReversedPosition: 7, Amount: ten, Reason: awkward}},
		account.MoneyDeposited{Amount: ten}, // nothing to seal
	}
}

var state = account.State{Status: account.Active, Owner: awkward, Metadata: account.NewMetadata(map[string]string{"k": awkward})}

// sealed returns an event as the codec seals it and PostgreSQL returns it.
func sealed(t testing.TB, codec *subject.Codec, pool *pgxpool.Pool, stream, person uuid.UUID, e account.Event) eventstore.Event {
	t.Helper()
	encoded, err := eventjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	s := state
	s.Currency, _ = money.LookupCurrency("EUR")
	snapshot, err := eventjson.MarshalState(s)
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte(`{"actor":"\"state\":{\"state_version\":","state":` + string(snapshot) + `}`)
	n := []eventstore.NewEvent{{
		StreamID: stream, Version: 3, Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload, Metadata: plain, SubjectID: person,
	}}
	before := bytes.Clone(plain)
	if err := codec.Seal(t.Context(), n); err != nil {
		t.Fatalf("%T: %v", e, err)
	}
	if !bytes.Equal(plain, before) {
		t.Fatal("Seal has written into metadata that other events share")
	}
	out := eventstore.Event{StreamID: stream, Version: 3, Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Position: 9}
	err = pool.QueryRow(t.Context(), "select $1::jsonb::text, $2::jsonb::text", string(n[0].Payload), string(n[0].Metadata)).Scan(&out.Payload, &out.Metadata)
	if err != nil {
		t.Fatalf("%T: %s: %v", e, n[0].Payload, err)
	}
	for _, text := range [][]byte{n[0].Payload, n[0].Metadata, out.Payload, out.Metadata} {
		if bytes.Contains(text, []byte("Zoë")) || bytes.Contains(text, []byte("reference")) {
			t.Errorf("%T is not sealed: %s", e, text)
		}
	}
	return out
}

func decoded(t testing.TB, e *eventstore.Event) (account.Event, account.State) {
	t.Helper()
	event, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
	if err != nil {
		t.Fatalf("%s: %v", e.Payload, err)
	}
	_, rest, _ := strings.Cut(string(e.Metadata), `"state": `)
	s, err := eventjson.UnmarshalState([]byte(strings.TrimSuffix(rest, "}")))
	if err != nil {
		t.Fatalf("%s: %v", e.Metadata, err)
	}
	return event, s
}

func TestCodec(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	keys, pool := b.instance(t)
	codec := subject.NewCodec(keys)
	want := state
	want.Currency, _ = money.LookupCurrency("EUR")
	stream, shared := uuid.New(), uuid.New()
	for _, e := range texts() {
		for _, person := range []uuid.UUID{uuid.Nil, shared} {
			stored := sealed(t, codec, pool, stream, person, e)
			opened := []eventstore.Event{stored}
			if err := codec.Open(t.Context(), opened, true); err != nil {
				t.Fatalf("%T: %v", e, err)
			}
			if got, s := decoded(t, &opened[0]); got != e || !reflect.DeepEqual(s, want) {
				t.Errorf("got %+v and %+v, want %+v", got, s, e)
			}
			moved := []eventstore.Event{stored}
			moved[0].Version++
			if err := codec.Open(t.Context(), moved, true); err == nil {
				t.Errorf("%T opens as another event", e)
			}
			moved = []eventstore.Event{stored}
			moved[0].StreamID = uuid.New()
			if err := codec.Open(t.Context(), moved, true); err == nil {
				t.Errorf("%T opens in another stream", e)
			}
			cut := []eventstore.Event{stored}
			cut[0].Metadata = bytes.Replace(stored.Metadata, []byte(`"box": "`), []byte(`"box": "A`), 1)
			if err := codec.Open(t.Context(), cut, true); err == nil {
				t.Errorf("%T opens although it is damaged", e)
			}
		}
	}
}

// TestOpenEach reads more events than one chunk has: all come, in order and open, though the caller's memory is used again for each.
func TestOpenEach(t *testing.T) {
	t.Parallel()
	keys, pool := newTestbed(t).instance(t)
	codec := subject.NewCodec(keys)
	one := sealed(t, codec, pool, uuid.New(), uuid.Nil, account.OwnerChanged{Owner: "Zoë"})
	var got int64
	stop := errors.New("enough")
	add, flush := codec.OpenEach(t.Context(), func(e *eventstore.Event) error {
		if got++; e.Position != got || !bytes.Contains(e.Payload, []byte("Zoë")) || !bytes.Contains(e.Metadata, []byte("Zoë")) {
			t.Fatalf("event %d is %+v", got, e)
		}
		if got == 601 {
			return stop
		}
		return nil
	})
	for i := range int64(600) {
		e := one
		e.Position, e.Payload = i+1, bytes.Clone(one.Payload)
		if err := add(&e); err != nil {
			t.Fatal(err)
		}
		clear(e.Payload)
	}
	if err := flush(); err != nil || got != 600 {
		t.Fatalf("%d events, %v", got, err)
	}
	one.Position = 601
	if err := errors.Join(add(&one), flush()); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of each", err)
	}
}

// TestErasedText expects what is left of events and snapshots once the key is gone, also of those written later.
func TestErasedText(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	keys, pool := b.instance(t)
	codec, person := subject.NewCodec(keys), uuid.New()
	var stored []eventstore.Event
	for _, e := range texts() {
		stored = append(stored, sealed(t, codec, pool, uuid.New(), person, e))
	}
	if err := keys.Destroy(t.Context(), person); err != nil {
		t.Fatal(err)
	}
	for _, e := range texts() {
		stored = append(stored, sealed(t, codec, pool, uuid.New(), person, e))
	}
	if err := codec.Open(t.Context(), stored, true); err != nil {
		t.Fatal(err)
	}
	for i := range stored {
		e := &stored[i]
		event, s := decoded(t, e)
		encoded, err := eventjson.Encode(event)
		if err != nil || bytes.Contains(encoded.Payload, []byte("Zoë")) || s.Owner != "" || !s.Metadata.IsEmpty() || s.Erased {
			t.Errorf("%s %s: %+v, %+v, %v", e.Payload, e.Metadata, event, s, err)
		}
		if text := i%len(texts()) < len(texts())-1; bytes.Contains(e.Payload, []byte(`"erased": true`)) != text {
			t.Errorf("%s: the marker is wrong", e.Payload)
		}
	}
}

func BenchmarkSeal(b *testing.B)      { benchmarkSeal(b, "salary of May") }
func BenchmarkSealPlain(b *testing.B) { benchmarkSeal(b, "") }

func benchmarkSeal(b *testing.B, reference string) {
	b.Helper()
	keys, _ := newTestbed(b).instance(b)
	codec := subject.NewCodec(keys)
	eur, _ := money.LookupCurrency("EUR")
	encoded, err := eventjson.Encode(account.MoneyDeposited{Amount: money.New(1000, eur), Reference: reference})
	if err != nil {
		b.Fatal(err)
	}
	batch, stream := make([]eventstore.NewEvent, 64), uuid.New()
	for b.Loop() {
		for i := range batch {
			batch[i] = eventstore.NewEvent{StreamID: stream, Version: int64(i + 1), Type: encoded.Type, Payload: encoded.Payload}
		}
		if err := codec.Seal(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
}

func BenchmarkOpen(b *testing.B) {
	keys, pool := newTestbed(b).instance(b)
	codec := subject.NewCodec(keys)
	stored := sealed(b, codec, pool, uuid.New(), uuid.Nil, account.OwnerChanged{Owner: "Zo"})
	stored.Metadata = nil
	batch := make([]eventstore.Event, 64)
	for b.Loop() {
		for i := range batch {
			batch[i] = stored
		}
		if err := codec.Open(b.Context(), batch, true); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
}
