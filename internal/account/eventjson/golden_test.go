package eventjson_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

var (
	transferID = uuid.MustParse("0198c1f0-0000-7000-8000-00000000000a")
	subjectID  = uuid.MustParse("0198c1f0-0000-7000-8000-00000000000f")
	holdID     = uuid.MustParse("0198c1f0-0000-7000-8000-00000000000d")
	reversalID = uuid.MustParse("0198c1f0-0000-7000-8000-00000000000e")
	kwd        = mustCurrency("KWD")
	labels     = account.NewMetadata(map[string]string{"order": "A-17", "say \"é\"": "日本", "empty": ""})
)

// golden are the events in testdata/golden, as today's code has them. The files of every version of a type decode
// to the same event.
var golden = map[string]account.Event{
	"AccountCreated": account.AccountCreated{Owner: "Ada Lovelace", Currency: eur, OverdraftLimit: 5000},
	"MoneyDeposited": account.MoneyDeposited{Amount: money.New(1234, eur), Reference: `salary "May" – 日本`},
	"MoneyWithdrawn": account.MoneyWithdrawn{Amount: money.New(500, jpy)},
	"TransferSent": account.TransferSent{
		TransferID: transferID, To: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000b"),
		Amount: money.New(1, kwd), Reference: "rent",
	},
	"TransferReceived": account.TransferReceived{
		TransferID: transferID, From: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000c"),
		Amount: money.New(1, kwd), Reference: "rent",
	},
	"AccountSuspended":      account.AccountSuspended{Reason: "fraud check"},
	"AccountReactivated":    account.AccountReactivated{},
	"AccountClosed":         account.AccountClosed{Reason: "moved abroad"},
	"OwnerChanged":          account.OwnerChanged{Owner: "Ada King"},
	"OverdraftLimitChanged": account.OverdraftLimitChanged{OverdraftLimit: 7500, Currency: eur},
	"MetadataChanged":       account.MetadataChanged{Metadata: labels},
	"HoldPlaced":            account.HoldPlaced{HoldID: holdID, Amount: money.New(2500, eur)},
	"HoldCaptured":          account.HoldCaptured{HoldID: holdID, Amount: money.New(2000, eur), Released: 500},
	"HoldReleased":          account.HoldReleased{HoldID: holdID, Amount: money.New(2500, eur), Reason: "checked out"},
	"HoldExpired":           account.HoldExpired{HoldID: holdID, Amount: money.New(2500, eur)},
	"CreditReversed": account.CreditReversed{Reversal: account.Reversal{
		ReversalID: reversalID, ReversedPosition: 17, Amount: money.New(1234, eur),
	}},
	"DebitReversed": account.DebitReversed{Reversal: account.Reversal{
		ReversalID: reversalID, ReversedPosition: 18, Amount: money.New(500, jpy), Reason: "sent twice",
	}},
	"SubjectErased": account.SubjectErased{SubjectID: subjectID},
}

// goldenOptions are events with their optional fields set, in files of the newest version only.
var goldenOptions = map[string]account.Event{
	"AccountCreated.metadata": account.AccountCreated{Owner: "Ada Lovelace", Currency: eur, OverdraftLimit: 5000, Metadata: labels},
	"AccountCreated.subject":  account.AccountCreated{Owner: "Ada Lovelace", Currency: eur, Metadata: labels, SubjectID: subjectID},
	"MoneyDeposited.metadata": account.MoneyDeposited{Amount: money.New(1234, eur), Reference: "salary", Metadata: labels},
	"MoneyWithdrawn.metadata": account.MoneyWithdrawn{Amount: money.New(500, jpy), Metadata: labels},
	"TransferSent.metadata": account.TransferSent{
		TransferID: transferID, To: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000b"),
		Amount: money.New(1, kwd), Reference: "rent", Metadata: labels,
	},
	"TransferReceived.metadata": account.TransferReceived{
		TransferID: transferID, From: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000c"),
		Amount: money.New(1, kwd), Reference: "rent", Metadata: labels,
	},
	"MetadataChanged.none": account.MetadataChanged{},
	"HoldPlaced.all": account.HoldPlaced{
		HoldID: holdID, Amount: money.New(2500, eur), Reference: "room 12",
		ExpiresAt: time.Date(2026, time.March, 1, 12, 30, 0, 120_000_000, time.UTC), Metadata: labels,
	},
	"HoldReleased.plain": account.HoldReleased{HoldID: holdID, Amount: money.New(2500, eur)},
	"CreditReversed.forced": account.CreditReversed{Reversal: account.Reversal{
		ReversalID: reversalID, ReversedPosition: 17, Amount: money.New(1, kwd), TransferID: transferID,
		Counterparty: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000c"), Reason: "sent twice", Forced: true,
	}},
	"DebitReversed.transfer": account.DebitReversed{Reversal: account.Reversal{
		ReversalID: reversalID, ReversedPosition: 16, Amount: money.New(1, kwd), TransferID: transferID,
		Counterparty: uuid.MustParse("0198c1f0-0000-7000-8000-00000000000b"), Reason: "sent twice",
	}},
}

var update = flag.Bool("update", false, "write the golden files of the newest versions")

func goldenFile(name string, version int) string {
	return filepath.Join("testdata", "golden", fmt.Sprintf("%s.v%d.json", name, version))
}

func readGolden(t *testing.T, name string, version int) []byte {
	t.Helper()
	data, err := os.ReadFile(goldenFile(name, version))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, e := range golden {
		if name != e.EventType() {
			t.Errorf("%s is called %s", e.EventType(), name)
		}
		for version := 1; version <= eventjson.SchemaVersion(name); version++ {
			checkGolden(t, name, version, e)
		}
	}
	for name, e := range goldenOptions {
		checkGolden(t, name, eventjson.SchemaVersion(e.EventType()), e)
	}
	files := len(goldenOptions) + 1 // State.v2.json
	for _, name := range eventjson.EventTypes() {
		files += eventjson.SchemaVersion(name)
		if golden[name] == nil {
			t.Errorf("%s has no golden file", name)
		}
	}
	found, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil || len(found) != files {
		t.Errorf("%d golden files, %d were read: %v", len(found), files, err)
	}
}

func checkGolden(t *testing.T, name string, version int, e account.Event) {
	t.Helper()
	newest := eventjson.SchemaVersion(e.EventType())
	encoded, err := eventjson.Encode(e)
	if err != nil || encoded.Type != e.EventType() || encoded.SchemaVersion != newest {
		t.Errorf("%s: encoded as %s v%d, %v", name, encoded.Type, encoded.SchemaVersion, err)
	}
	if *update && version == newest {
		if err := os.WriteFile(goldenFile(name, version), encoded.Payload, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := readGolden(t, name, version)
	if version == newest && !bytes.Equal(encoded.Payload, file) {
		t.Errorf("%s: encoded as\n%s, want\n%s", name, encoded.Payload, file)
	}
	if got, err := eventjson.Decode(e.EventType(), version, file); err != nil || got != e {
		t.Errorf("%s v%d: got %+v, %v", name, version, got, err)
	}
}

func TestGoldenState(t *testing.T) {
	t.Parallel()
	want := account.State{
		Status: account.Suspended, Owner: "Ada Lovelace", Currency: eur, Balance: -1234, OverdraftLimit: 5000,
		Held: 2600, Holds: []account.Hold{
			{ID: transferID, Amount: 100},
			{ID: holdID, Amount: 2500, ExpiresAt: time.Date(2026, time.March, 1, 12, 30, 0, 120_000_000, time.UTC)},
		},
		Metadata: labels,
	}
	data, err := eventjson.MarshalState(want)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(goldenFile("State", eventjson.StateVersion), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := readGolden(t, "State", eventjson.StateVersion)
	if !bytes.Equal(data, file) {
		t.Errorf("got %s", data)
	}
	if got, err := eventjson.UnmarshalState(file); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, plain := range []account.State{
		{Status: account.Active, Owner: "A", Currency: jpy},
		{Status: account.Closed, Owner: "A", Currency: jpy, OverdraftLimit: 1},
		{Status: account.Active, Owner: "A", Currency: jpy, SubjectID: subjectID},
		{Status: account.Active, Currency: jpy, Erased: true},
		{Status: account.Active, Owner: "A", Currency: jpy, Balance: -500, OverdraftLimit: 1}, // after a forced reversal
	} {
		data, err := eventjson.MarshalState(plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := eventjson.UnmarshalState(data); err != nil || !reflect.DeepEqual(got, plain) {
			t.Errorf("%s: got %+v, %v", data, got, err)
		}
	}
}
