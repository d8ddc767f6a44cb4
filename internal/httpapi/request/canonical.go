package request

import (
	stdjson "encoding/json"
	"maps"
	"slices"
	"strings"
)

// appendCanonical writes a JSON value, as decodeJSON returns it, so that equal values are written the same however they were
// spelled: members are sorted, and an amount is its value, as a number or a string and with or without trailing zeros. name is
// that of the member whose value it is, "" for the body.
func appendCanonical(b []byte, name string, value any) []byte {
	switch v := value.(type) {
	case map[string]any:
		b = append(b, '{')
		for _, member := range slices.Sorted(maps.Keys(v)) {
			within := member
			if name != "" { // metadata, whose keys are the caller's own
				within = name
			}
			b = appendCanonical(appendText(b, member), within, v[member])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for _, element := range v {
			b = appendCanonical(b, "", element)
		}
		return append(b, ']')
	case stdjson.Number:
		return appendText(b, canonicalDecimal(string(v)))
	case string:
		if isAmount(name) {
			v = canonicalDecimal(v)
		}
		return appendText(b, v)
	case bool:
		if v {
			return append(b, 't')
		}
		return append(b, 'f')
	}
	return append(b, 'n')
}

// isAmount tells the members that hold an amount, which may be a number or a string.
func isAmount(name string) bool {
	switch name {
	case "amount", "overdraft_limit", "initial_deposit":
		return true
	}
	return false
}

// appendText writes a string between quotes; one within it is doubled, so that no two values are written the same.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' {
			b = append(b, '"')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// canonicalDecimal takes off the zeros that do not change the value of a decimal.
func canonicalDecimal(s string) string {
	if strings.IndexByte(s, '.') >= 0 && !strings.ContainsAny(s, "eE") {
		s = strings.TrimRight(s, "0")
		s = strings.TrimSuffix(s, ".")
	}
	if trimmed := strings.TrimLeft(s, "0"); trimmed != "" && trimmed[0] != '.' {
		return trimmed
	} else if trimmed != s {
		return "0" + trimmed
	}
	return s
}
