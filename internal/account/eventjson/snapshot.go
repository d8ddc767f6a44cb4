package eventjson

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"

	"passbook/internal/account"
	"passbook/internal/money"
)

// StateVersion is the version of what MarshalState writes. It grows whenever account.State or the meaning of an
// event changes, so that a snapshot of older code is dropped and made again from the events.
const StateVersion = 1

type wireState struct {
	StateVersion   int    `json:"state_version"`
	Status         string `json:"status"`
	Owner          string `json:"owner"`
	Currency       string `json:"currency"`
	Balance        *int64 `json:"balance"`
	OverdraftLimit *int64 `json:"overdraft_limit"`
}

// MarshalState returns a state as a snapshot keeps it: a JSON object that names its StateVersion. An account that
// was never opened has no snapshot, and is an error.
func MarshalState(s account.State) ([]byte, error) {
	if !s.Exists() || s.Status > account.Closed || s.Currency.IsZero() || s.OverdraftLimit < 0 {
		return nil, fmt.Errorf("eventjson: encode state: %s account of currency %q", s.Status, s.Currency)
	}
	dst := strconv.AppendInt([]byte(`{"state_version":`), StateVersion, 10)
	dst = append(append(dst, `,"status":"`...), s.Status.String()...)
	dst, err := appendText(append(dst, `","owner":`...), s.Owner)
	if err != nil {
		return nil, fmt.Errorf("eventjson: encode state: %w", err)
	}
	dst = append(append(dst, `,"currency":"`...), s.Currency.Code()...)
	dst = strconv.AppendInt(append(dst, `","balance":`...), s.Balance, 10)
	dst = strconv.AppendInt(append(dst, `,"overdraft_limit":`...), s.OverdraftLimit, 10)
	return append(dst, '}'), nil
}

// UnmarshalState returns the state MarshalState was given, whatever the spacing and the order of keys. A snapshot of
// another StateVersion is ErrUnknownSchema: drop it and fold the events.
func UnmarshalState(data []byte) (account.State, error) {
	var w wireState
	if err := json.Unmarshal(data, &w); err != nil {
		return account.State{}, fmt.Errorf("eventjson: decode state: %w", err)
	}
	if w.StateVersion != StateVersion {
		return account.State{}, fmt.Errorf("%w %d of a state: this code knows %d", ErrUnknownSchema, w.StateVersion, StateVersion)
	}
	status, ok := statusOf(w.Status)
	if !ok {
		return account.State{}, fmt.Errorf("eventjson: decode state: status %q", w.Status)
	}
	c, ok := money.LookupCurrency(w.Currency)
	if !ok {
		return account.State{}, fmt.Errorf("eventjson: decode state: %w %q", money.ErrUnknownCurrency, w.Currency)
	}
	if w.Balance == nil || w.OverdraftLimit == nil || *w.OverdraftLimit < 0 {
		return account.State{}, errors.New("eventjson: decode state: balance or overdraft_limit is missing or impossible")
	}
	if _, ok := money.AddMinor(*w.Balance, *w.OverdraftLimit); !ok {
		return account.State{}, errors.New("eventjson: decode state: balance and overdraft_limit overflow")
	}
	return account.State{
		Status: status, Owner: w.Owner, Currency: c, Balance: *w.Balance, OverdraftLimit: *w.OverdraftLimit,
	}, nil
}

// statusOf returns the status of an account that exists.
func statusOf(name string) (account.Status, bool) {
	for s := account.Active; s <= account.Closed; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return account.Missing, false
}
