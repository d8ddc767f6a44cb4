package postgres

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestWarningsAreFoundWhereverReadsEnd splits the same messages at every byte.
func TestWarningsAreFoundWhereverReadsEnd(t *testing.T) {
	t.Parallel()
	warning := func(code, routine string) *pgproto3.NoticeResponse {
		return &pgproto3.NoticeResponse{Severity: "WARNUNG", SeverityUnlocalized: "WARNING", Code: code, Message: "…", Routine: routine}
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	var wire []byte
	want := ""
	for _, one := range []struct {
		message pgproto3.BackendMessage
		want    string
	}{
		{warning("01000", ""), "N"}, // of the start of the session: nothing was asked yet
		{ready, "Z"},
		{&pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("N\x00\x00\x00\x01"), 100)}}, "D"},
		{warning("01000", "SyncRepWaitForLSN"), "E"},
		{&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")}, "C"},
		{warning("01007", "ExecGrant"), "N"},
		{warning("01000", "something_else"), "N"},
		{warning("01000", ""), "E"},
		{ready, "Z"},
	} {
		var err error
		if wire, err = one.message.Encode(wire); err != nil {
			t.Fatal(err)
		}
		want += one.want
	}
	for size := range wire {
		var source io.Reader = bytes.NewReader(wire)
		switch size {
		case 0:
			source = iotest.OneByteReader(source)
		default:
			source = io.MultiReader(bytes.NewReader(wire[:size]), bytes.NewReader(wire[size:]))
		}
		all, err := io.ReadAll(&warningReader{from: source})
		if err != nil || len(all) != len(wire) {
			t.Fatalf("%d of %d bytes, %v", len(all), len(wire), err)
		}
		got := ""
		for at := 0; at < len(all); at += len(all) - at + missing(all[at:]) {
			got += string(all[at])
		}
		if got != want {
			t.Errorf("cut at %d: %s, want %s", size, got, want)
		}
	}
}
