package request

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

const timeSentence = "must be an RFC 3339 time, such as 2026-01-02T15:04:05Z; in a URL, + is written %2B"

// timeShape is date-time of RFC 3339, section 5.6, whose letters may be of either case. Package time accepts more (hours of one
// digit, a comma) and less (no lower case, no leap second).
var timeShape = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$`)

// withTimes validates a schema's date-time with ParseTime.
var withTimes = openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(text string) error {
	if _, ok := ParseTime(text); !ok {
		return errors.New(timeSentence)
	}
	return nil
}))

// ParseTime accepts exactly RFC 3339. A leap second is the second after it, as in PostgreSQL, and is accepted only where one can
// be: at the end of a month, in UTC. It keeps nine digits of a fraction. A time between two microseconds stays between them, so
// that it compares correctly with the log's times, which have microseconds.
func ParseTime(text string) (time.Time, bool) {
	part := timeShape.FindStringSubmatch(text)
	if part == nil {
		return time.Time{}, false
	}
	date, minute, second, fraction, zone := part[1], part[2], part[3], part[4], strings.ToUpper(part[5])
	leap := second == "60"
	if leap {
		second = "59"
	}
	var t time.Time
	if err := t.UnmarshalText([]byte(date + "T" + minute + ":" + second + zone)); err != nil {
		return time.Time{}, false
	}
	if leap {
		t = t.Add(time.Second)
		if next := t.UTC(); next.Day() != 1 || !next.Equal(next.Truncate(24*time.Hour)) {
			return time.Time{}, false
		}
	}
	return t.Add(nanoseconds(fraction)), true
}

// nanoseconds reads the digits of a fraction of a second.
func nanoseconds(digits string) time.Duration {
	const kept = 9
	n, err := strconv.Atoi((digits + strings.Repeat("0", kept))[:kept])
	if err != nil { // unreachable: they are digits
		return 0
	}
	if len(digits) > kept && strings.Trim(digits[kept:], "0") != "" && n%int(time.Microsecond) == 0 {
		n++
	}
	return time.Duration(n)
}
