package request

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTraceID(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, want := range map[string]string{
		"00-" + trace + "-00f067aa0ba902b7-01":                             trace,
		"00-" + trace + "-00f067aa0ba902b7-00":                             trace,
		"cc-" + trace + "-00f067aa0ba902b7-01":                             trace,
		"cc-" + trace + "-00f067aa0ba902b7-01-what-the-future-brings":      trace,
		"cc-" + trace + "-00f067aa0ba902b7-01.":                            "",
		"cc-" + trace + "-00f067aa0ba902b7-01-\n":                          "",
		"cc-" + trace + "-00f067aa0ba902b7-01-" + strings.Repeat("x", 100): "",
		"00-" + trace + "-00f067aa0ba902b7-01-x":                           "",
		"ff-" + trace + "-00f067aa0ba902b7-01":                             "",
		"00-" + strings.ToUpper(trace) + "-00f067aa0ba902b7-01":            "",
		"00-" + trace + "-0000000000000000-01":                             "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":          "",
		"00-" + trace + "-00f067aa0ba902b7":                                "",
		"":                                                                 "",
	} {
		if got := TraceID(header); got != want {
			t.Errorf("%q: got %q", header, got)
		}
	}
}

// An accepted key is the same in its bare and its quoted form.
func FuzzIdempotencyKey(f *testing.F) {
	for _, value := range []string{"k", `"k"`, `"a\"b\\c"`, `a"b`, `"`, `""`, "", " ", `"\`, `"\"`, strings.Repeat("k", 256)} {
		f.Add(value)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, value string) {
		key, err := parseIdempotencyKey(value)
		if err != nil {
			return
		}
		if !VisibleASCII(key, maxKeyLen) {
			t.Fatalf("%q: took %q", value, key)
		}
		again, err := parseIdempotencyKey(`"` + quote.Replace(key) + `"`)
		if err != nil || again != key {
			t.Fatalf("%q: %q when quoted, %v", key, again, err)
		}
	})
}

func TestParseIfMatch(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]int64{
		`*`: nil, `"3"`: {3}, `"3", "5"`: {3, 5}, `"3","5" ,, "7",`: {3, 5, 7}, `W/"3"`: {}, `W/"3", "4"`: {4}, `"abc"`: {}, `"03"`: {},
		`"a,b", "2"`: {2}, `"9223372036854775808", "9223372036854775807"`: {9223372036854775807}, `""`: {}, "\"\xff\"": {},
	} {
		got, err := parseIfMatch(value)
		if err != nil || (got == nil) != (want == nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %#v, %v, not %#v", value, got, err, want)
		}
	}
	for _, value := range []string{``, `,`, `3`, `"3`, `"3" "4"`, `*, "3"`, `"3", *`, `w/"3"`, `W/ "3"`, `"a b"`, "\"\x7f\"", `"3"x`} {
		if got, err := parseIfMatch(value); err == nil {
			t.Errorf("%s: %v", value, got)
		}
	}
}

// An accepted version is in the list as written, and its tag matches.
func FuzzIfMatch(f *testing.F) {
	for _, value := range []string{`*`, `"3"`, `"0"`, `"03"`, `W/"3"`, `"-1"`, `"9223372036854775807"`, `"9223372036854775808"`, `"`, ``} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		_ = NoneMatch(value, `"3"`)
		_, _ = PreferredWait(value)
		versions, err := parseIfMatch(value)
		if err == nil && versions == nil && value != "*" {
			t.Fatalf("%q is taken for *", value)
		}
		for _, version := range versions {
			if !strings.Contains(value, VersionTag(version)) || NoneMatch(value, VersionTag(version)) {
				t.Fatalf("%q: took %v", value, version)
			}
		}
	})
}

// FuzzPrefer tries any Prefer: the wait is within bounds, and does not depend on unknown preferences.
func FuzzPrefer(f *testing.F) {
	for _, header := range []string{"", "wait=3", `respond-async, Wait = "3";x=1`, "wait=99999999999999999999", "wait=-1", "wait", "wait=,wait=2", "wait=\x00"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		wait, given := PreferredWait(header)
		if wait < 0 || wait > maxWait || wait%time.Second != 0 || !given && wait != DefaultWait {
			t.Fatalf("%q: %v, %v", header, wait, given)
		}
		if again, alsoGiven := PreferredWait("respond-async, handling=lenient," + header); again != wait || alsoGiven != given {
			t.Fatalf("%q: %v, %v, and after others %v, %v", header, wait, given, again, alsoGiven)
		}
	})
}

var (
	traceparents = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?$`)
	zeros        = regexp.MustCompile(`^0*$`)
)

// FuzzTraceparent compares the reader of traceparent with the grammar of W3C Trace Context.
func FuzzTraceparent(f *testing.F) {
	for _, header := range []string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "ff-", ""} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		want := ""
		if m := traceparents.FindStringSubmatch(header); m != nil && len(header) <= MaxIDLen && m[1] != "ff" && (m[1] != "00" || m[4] == "") &&
			!zeros.MatchString(m[2]) && !zeros.MatchString(m[3]) {
			want = m[2]
		}
		if got := TraceID(header); got != want {
			t.Fatalf("%q: %q, want %q", header, got, want)
		}
	})
}
