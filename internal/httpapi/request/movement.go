package request

import (
	"passbook/internal/account"
	"passbook/internal/money"
)

// Deposits and withdrawals are most of the load, so plain bodies of them are read by hand: one object of known members, each
// given once, with strings of printable ASCII without escapes. The general reader takes any other body, validates it against the
// specification and says what is wrong. FuzzPlainMovement compares the two: what this one accepts, the general one accepts as the
// same command. BenchmarkDepositBody shows what it saves: go-json-experiment/json into a struct takes 2.5 times as long and
// checks less, the general reader 10 times.

// plainMovement has the members of a plain body, empty if absent.
type plainMovement struct {
	command, key, accountID, amount, currency, reference []byte
}

// readPlainMovement reads a plain body; ok is false for any other. The members command and idempotency_key are only for items of
// POST /commands.
func readPlainMovement(raw []byte, isItem bool) (m plainMovement, ok bool) {
	i := skipSpace(raw, 0)
	if i == len(raw) || raw[i] != '{' {
		return m, false
	}
	for {
		i = skipSpace(raw, i+1)
		if i == len(raw) || raw[i] != '"' { // also an empty object, which is not valid anyway
			return m, false
		}
		name, after, plain := plainString(raw, i)
		if !plain {
			return m, false
		}
		i = skipSpace(raw, after)
		if i == len(raw) || raw[i] != ':' {
			return m, false
		}
		target := m.member(string(name), isItem)
		if target == nil || *target != nil {
			return m, false
		}
		i = skipSpace(raw, i+1)
		value, after, plain := plainString(raw, i)
		if !plain && target == &m.amount {
			value, after, plain = plainNumber(raw, i)
		}
		if !plain || len(value) == 0 {
			return m, false
		}
		*target = value
		i = skipSpace(raw, after)
		if i == len(raw) || raw[i] != ',' && raw[i] != '}' {
			return m, false
		}
		if raw[i] == '}' {
			return m, skipSpace(raw, i+1) == len(raw)
		}
	}
}

func (m *plainMovement) member(name string, isItem bool) *[]byte {
	switch name {
	case "account_id":
		return &m.accountID
	case "amount":
		return &m.amount
	case "currency":
		return &m.currency
	case "reference":
		return &m.reference
	case "command":
		if isItem {
			return &m.command
		}
	case "idempotency_key":
		if isItem {
			return &m.key
		}
	}
	return nil
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// plainString reads a string of printable ASCII without escapes, and returns where it ends.
func plainString(raw []byte, i int) (text []byte, after int, ok bool) {
	if i == len(raw) || raw[i] != '"' {
		return nil, i, false
	}
	for j := i + 1; j < len(raw); j++ {
		switch c := raw[j]; {
		case c == '"':
			return raw[i+1 : j], j + 1, true
		case c < ' ' || c > '~' || c == '\\':
			return nil, i, false
		}
	}
	return nil, i, false
}

// plainNumber reads digits and points; money.ParseDecimal decides whether they are a number.
func plainNumber(raw []byte, i int) (text []byte, after int, ok bool) {
	j := i
	for j < len(raw) && (raw[j] == '.' || raw[j] >= '0' && raw[j] <= '9') {
		j++
	}
	return raw[i:j], j, j > i
}

// appendCanonical appends what the function of that name does for the same body.
func (m *plainMovement) appendCanonical(b []byte) []byte {
	b = append(b, '{')
	for _, member := range [...]struct {
		name  string
		value []byte
	}{{"account_id", m.accountID}, {"amount", m.amount}, {"command", m.command}, {"currency", m.currency}, {"reference", m.reference}} {
		if member.value != nil {
			b = appendCanonical(appendText(b, member.name), member.name, string(member.value))
		}
	}
	return append(b, '}')
}

// maxReference is the schema Text's bound; in a plain body a character is a byte.
const maxReference = 500

// build fills in account and command; it returns false if a member is missing or not valid.
func (m *plainMovement) build(c *Command) bool {
	id, ok := parseUUID(string(m.accountID))
	if !ok || len(m.reference) > maxReference {
		return false
	}
	amount, err := money.ParseDecimal(string(m.amount))
	if err != nil {
		return false
	}
	var currency money.Currency
	if m.currency != nil {
		if currency, ok = money.LookupCurrency(string(m.currency)); !ok {
			return false
		}
	}
	switch c.Kind.Name {
	case account.Deposit{}.Name():
		c.Command = account.Deposit{Amount: amount, Currency: currency, Reference: string(m.reference)}
	case account.Withdraw{}.Name():
		c.Command = account.Withdraw{Amount: amount, Currency: currency, Reference: string(m.reference)}
	default:
		return false
	}
	c.AccountID = id
	return true
}
