package request

import (
	"regexp"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"passbook/api"
)

// TestTimes covers the grammar of RFC 3339, section 5.6, and its appendix on leap seconds.
func TestTimes(t *testing.T) {
	t.Parallel()
	p := parameter{"at", timeSchema(t)}
	for text, want := range map[string]string{
		"2026-01-02T15:04:05Z":                  "2026-01-02T15:04:05Z",
		"2026-01-02t15:04:05z":                  "2026-01-02T15:04:05Z",
		"2026-01-02t15:04:05.5Z":                "2026-01-02T15:04:05.5Z",
		"2026-01-02T15:04:05+05:45":             "2026-01-02T09:19:05Z",
		"2026-01-02T15:04:05-00:00":             "2026-01-02T15:04:05Z",
		"2026-01-02T15:04:05+23:59":             "2026-01-01T15:05:05Z",
		"2026-01-02T00:00:00-23:59":             "2026-01-02T23:59:00Z",
		"0000-01-01T00:00:00Z":                  "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z":        "9999-12-31T23:59:59.999999999Z",
		"2024-02-29T00:00:00Z":                  "2024-02-29T00:00:00Z",
		"1990-12-31T23:59:60Z":                  "1991-01-01T00:00:00Z", // the RFC's own examples
		"1990-12-31T15:59:60-08:00":             "1991-01-01T00:00:00Z",
		"1937-01-01T12:00:27.87+00:20":          "1937-01-01T11:40:27.87Z",
		"2016-12-31t23:59:60.75z":               "2017-01-01T00:00:00.75Z",
		"2026-06-30T23:59:60Z":                  "2026-07-01T00:00:00Z",
		"2026-01-02T15:04:05.1234567Z":          "2026-01-02T15:04:05.1234567Z",
		"2026-01-02T15:04:05.123456789999Z":     "2026-01-02T15:04:05.123456789Z",
		"2026-01-02T15:04:05.1234560000000000Z": "2026-01-02T15:04:05.123456Z",
		"2026-01-02T15:04:05.1234560000000001Z": "2026-01-02T15:04:05.123456001Z", // later than the microsecond
		"2026-01-02T15:04:05.9999999999999999Z": "2026-01-02T15:04:05.999999999Z",
	} {
		got, ok := ParseTime(text)
		if !ok || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %s, %t, not %s", text, got.UTC().Format(time.RFC3339Nano), ok, want)
		}
		if errs := p.check(text, nil); len(errs) > 0 {
			t.Errorf("%s is refused: %v", text, errs)
		}
	}
	for _, text := range []string{
		"", "now", "2026-01-02", "2026-01-02T15:04:05", "2026-01-02 15:04:05Z", "2026-01-02T15:04Z", "2026-1-2T15:04:05Z",
		"2026-01-02T5:04:05Z", "2026-01-02T15:04:05,5Z", "2026-01-02T15:04:05.Z", "2026-01-02T24:00:00Z", "2026-01-02T15:60:05Z",
		"2026-01-02T15:04:61Z", "2026-01-02T15:04:60Z", "2026-01-02T23:59:60Z", "2026-01-31T23:59:60+01:00", "2026-02-29T00:00:00Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-02T15:04:05+24:00", "2026-01-02T15:04:05+01:60",
		"2026-01-02T15:04:05+0100", "2026-01-02T15:04:05+01", "2026-01-02T15:04:05ZZ", "2026-01-02T15:04:05Z\n", "10000-01-01T00:00:00Z",
		"-001-01-01T00:00:00Z", "+2026-01-02T15:04:05Z", "２026-01-02T15:04:05Z", "1990-12-31T23:58:60Z",
	} {
		if got, ok := ParseTime(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

// timeSchema returns the schema of a time in the document.
func timeSchema(t *testing.T) *openapi3.Schema {
	t.Helper()
	sp, err := Load(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	return sp.Operation("GET", "/accounts/{account_id}/balance").query["at"].schema
}

var rfc3339 = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzTime tries any time: an accepted one has the form of RFC 3339, and means the same when it is written again.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"2026-01-02T15:04:05Z", "2026-01-02t15:04:05z", "2026-01-02T15:04:05.5+23:59", "2026-02-30T00:00:00Z", "2026-01-02T15:04:05,5Z", "2026-01-02T5:04:05Z", "2016-12-31T23:59:60.0000000001Z", "9999-12-31T23:59:60Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		moment, ok := ParseTime(text)
		if !ok || moment.Year() > 9999 { // a leap second after the last year
			return
		}
		if again, ok := ParseTime(moment.Format(time.RFC3339Nano)); !rfc3339.MatchString(text) || !ok || !again.Equal(moment) {
			t.Fatalf("%q is %v, and then %v", text, moment, again)
		}
	})
}
