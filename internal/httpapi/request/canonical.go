package request

import (
	stdjson "encoding/json"
	"maps"
	"slices"
	"strings"
)

// appendCanonical appends a JSON value, as decodeJSON returns it, in a form that is the same for equal values, however they are
// spelled: members are sorted, and an amount is its value, whether it is a number or a string, without trailing zeros. name is
// the member that holds the value, "" for the body.
func appendCanonical(b []byte, name string, value any) []byte {
	switch v := value.(type) {
	case map[string]any:
		b = append(b, '{')
		for _, member := range slices.Sorted(maps.Keys(v)) {
			within := member
			if name != "" { // in metadata the caller chooses the keys
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

// isAmount reports whether a member holds an amount, which may be a number or a string.
func isAmount(name string) bool {
	switch name {
	case "amount", "overdraft_limit", "initial_deposit":
		return true
	}
	return false
}

// appendText appends a string in quotes and doubles quotes within it, so that different values are always written differently.
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

// canonicalDecimal removes the zeros that do not change the value of a decimal.
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
