package httpapi

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxKeyLen bounds an idempotency key, in characters.
const maxKeyLen = 255

var (
	errBadKey         = errors.New("must be 1 to 255 visible ASCII characters, bare or as a quoted string")
	errRepeated       = errors.New("is given more than once")
	errNothingToMatch = errors.New("has no meaning here: an account that is not open yet has no version")

	errBadTag = errors.New(`must be one version in quotes, such as "3", or *`)
)

// parseIdempotencyKey reads the value of an Idempotency-Key: a structured-field string as the IETF draft has it
// ("…", with \" and \\ for the two), or, as most clients send it, the bare key. Both forms of one key are the same.
func parseIdempotencyKey(value string) (string, error) {
	if !strings.HasPrefix(value, `"`) {
		if !visibleASCII(value, maxKeyLen) {
			return "", errBadKey
		}
		return value, nil
	}
	if len(value) < 2 {
		return "", errBadKey
	}
	key := make([]byte, 0, len(value)-2)
	end := len(value) - 1
	for i := 1; i < end; i++ {
		c := value[i]
		switch {
		case c == '\\':
			i++
			if i == end || value[i] != '"' && value[i] != '\\' {
				return "", errBadKey
			}
			c = value[i]
		case c == '"':
			return "", errBadKey
		}
		key = append(key, c)
	}
	if value[end] != '"' || !visibleASCII(string(key), maxKeyLen) {
		return "", errBadKey
	}
	return string(key), nil
}

// parseIfMatch reads the value of an If-Match on a command: the version the account must be at, or nil for "*". Weak
// tags never match by RFC 9110, and a list of versions makes no sense for a command, so both are refused.
func parseIfMatch(value string) (*int64, error) {
	if value == "*" {
		return nil, nil //nolint:nilnil // any version is no condition
	}
	if len(value) < 3 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, errBadTag
	}
	digits := value[1 : len(value)-1]
	version, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(version, 10) != digits || version < 0 {
		return nil, errBadTag
	}
	return &version, nil
}

// versionTag is the ETag of an account at a version.
func versionTag(version int64) string {
	buf := make([]byte, 0, 22)
	buf = append(buf, '"')
	buf = strconv.AppendInt(buf, version, 10)
	return string(append(buf, '"'))
}

// noneMatch evaluates If-None-Match by RFC 9110, section 13.1.2: whether the tag is not among those the caller has.
// A list that is not well-formed counts as far as it is.
func noneMatch(header, tag string) bool {
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

// The wait for a position: when the caller does not say, and at most.
const (
	defaultWait = 5 * time.Second
	maxWait     = 30 * time.Second
)

// preferredWait reads wait=<seconds> from a Prefer header (RFC 7240) and caps it. As the RFC has it, what is not
// understood is passed over, and the first of several counts.
func preferredWait(header string) (wait time.Duration, given bool) {
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
	return defaultWait, false
}

// traceID returns the trace id of a W3C traceparent, or "" when it is not a valid one.
func traceID(traceparent string) string {
	const shape = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(traceparent) < len(shape) || len(traceparent) > maxIDLen {
		return ""
	}
	for i := range len(shape) {
		c := traceparent[i]
		if hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'; shape[i] == '0' && !hex || shape[i] == '-' && c != '-' {
			return ""
		}
	}
	version, trace, span := traceparent[:2], traceparent[3:35], traceparent[36:52]
	rest := traceparent[len(shape):]
	switch {
	case version == "ff", version == "00" && rest != "", rest != "" && rest[0] != '-':
		return ""
	case strings.Trim(trace, "0") == "", strings.Trim(span, "0") == "":
		return ""
	case rest != "" && !visibleASCII(rest, maxIDLen):
		return ""
	}
	return trace
}
