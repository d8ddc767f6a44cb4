package request

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxKeyLen bounds an idempotency key, in characters.
const maxKeyLen = 255

var (
	errBadKey = errors.New("must be 1 to 255 visible ASCII characters, bare or as a quoted string")
	// ErrRepeated says that a header is given more than once, but may be given only once.
	ErrRepeated       = errors.New("is given more than once")
	errNothingToMatch = errors.New("has no meaning here: an account that is not open yet has no version")

	errBadTag = errors.New(`must be versions in quotes, such as "3" or "3", "5", or *`)
)

// IdempotencyKey returns the Idempotency-Key of a request, or "".
func IdempotencyKey(h http.Header) (string, error) {
	var err error
	switch values := h["Idempotency-Key"]; len(values) {
	case 0:
		return "", nil
	case 1:
		var key string
		if key, err = parseIdempotencyKey(values[0]); err == nil {
			return key, nil
		}
	default:
		err = ErrRepeated
	}
	return "", HeaderError("Idempotency-Key", err)
}

// parseIdempotencyKey reads the value of an Idempotency-Key: an RFC 9651 string as in the IETF draft, or the bare key that most
// clients send. Both forms give the same key.
func parseIdempotencyKey(value string) (string, error) {
	key := value
	if strings.HasPrefix(value, `"`) {
		item, err := httpsfv.UnmarshalItem([]string{value})
		if err != nil {
			return "", errBadKey
		}
		key, _ = item.Value.(string)
	}
	if !VisibleASCII(key, maxKeyLen) {
		return "", errBadKey
	}
	return key, nil
}

// StrongTags reads the value of an If-Match (RFC 9110, section 13.1.1). It returns the strong entity tags, with their quotes; nil
// for "*". It drops weak ones, which never match.
func StrongTags(value string) ([]string, error) {
	if value == "*" {
		return nil, nil
	}
	strong, some := []string{}, false
	for rest := strings.TrimLeft(value, " \t,"); rest != ""; rest = strings.TrimLeft(rest, " \t,") {
		opaque, weak := strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(opaque, `"`) {
			return nil, errBadTag
		}
		end := 1 + strings.IndexByte(opaque[1:], '"')
		if end == 0 || strings.ContainsFunc(opaque[1:end], func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return nil, errBadTag
		}
		if !weak {
			strong = append(strong, opaque[:end+1])
		}
		some = true
		rest = strings.TrimLeft(opaque[end+1:], " \t")
		if rest != "" && rest[0] != ',' {
			return nil, errBadTag
		}
	}
	if !some {
		return nil, errBadTag
	}
	return strong, nil
}

// parseIfMatch reads the value of an If-Match on a command: the account must be at one of the versions; nil stands for "*". The
// result is empty if no version can match, because all tags are weak or foreign.
func parseIfMatch(value string) ([]int64, error) {
	tags, err := StrongTags(value)
	if err != nil || tags == nil {
		return nil, err
	}
	versions := []int64{}
	for _, tag := range tags {
		version, err := strconv.ParseInt(tag[1:len(tag)-1], 10, 64)
		if err == nil && version >= 0 && VersionTag(version) == tag {
			versions = append(versions, version)
		}
	}
	return versions, nil
}

// VersionTag returns the ETag of an account at a version.
func VersionTag(version int64) string {
	buf := make([]byte, 0, 22)
	buf = append(buf, '"')
	buf = strconv.AppendInt(buf, version, 10)
	return string(append(buf, '"'))
}

// NoneMatch evaluates If-None-Match by RFC 9110, section 13.1.2: it reports whether the caller does not have the tag. A malformed
// list counts up to the first error.
func NoneMatch(header, tag string) bool {
	for header != "" {
		header = strings.TrimLeft(header, " \t,")
		if strings.HasPrefix(header, "*") {
			return false
		}
		rest := strings.TrimPrefix(header, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return true
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return true
		}
		if rest[:end+2] == tag {
			return false
		}
		header = rest[end+2:]
	}
	return true
}

// The default and the longest wait for a position.
const (
	DefaultWait = 5 * time.Second
	maxWait     = 30 * time.Second
)

// PreferredWait reads wait=<seconds> from a Prefer header (RFC 7240) and caps it. As the RFC demands, it ignores what it does not
// understand, and the first of several values counts.
func PreferredWait(header string) (wait time.Duration, given bool) {
	for preference := range strings.SplitSeq(header, ",") {
		token, _, _ := strings.Cut(preference, ";")
		name, value, _ := strings.Cut(token, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			continue
		}
		if seconds >= uint64(maxWait/time.Second) {
			return maxWait, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	return DefaultWait, false
}

// TraceID returns the trace id of a W3C traceparent, or "" if that is not valid.
func TraceID(traceparent string) string {
	if !VisibleASCII(traceparent, MaxIDLen) {
		return ""
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !parent.IsValid() {
		return ""
	}
	return parent.TraceID().String()
}

// MaxIDLen bounds X-Request-Id, X-Correlation-Id, X-Causation-Id and Traceparent, in bytes.
const MaxIDLen = 128

// VisibleASCII reports whether s has 1 to most characters, all of them visible ASCII (0x21 to 0x7e).
func VisibleASCII(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
