package eventjson

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// StateVersion is the version of the format that MarshalState writes. Increase it whenever account.State or the meaning of an
// event changes: snapshots of older versions are ignored, and the state is folded from the events.
const StateVersion = 2

type wireState struct {
	StateVersion   int               `json:"state_version"`
	Status         string            `json:"status"`
	Owner          string            `json:"owner"`
	Currency       string            `json:"currency"`
	Balance        *int64            `json:"balance"`
	OverdraftLimit *int64            `json:"overdraft_limit"`
	Held           *int64            `json:"held"`
	Holds          []wireHold        `json:"holds"`
	Metadata       map[string]string `json:"metadata"`
	SubjectID      string            `json:"subject_id"`
	Erased         bool              `json:"erased"`
	Sealed         jsontext.Value    `json:"sealed"`
}

type wireHold struct {
	ID        string `json:"hold_id"`
	Amount    int64  `json:"amount"`
	ExpiresAt string `json:"expires_at"`
}

// MarshalState returns a snapshot of a state: a JSON object that contains StateVersion. It fails for an account that was never
// opened.
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
	dst = strconv.AppendInt(append(dst, `,"held":`...), s.Held, 10)
	if len(s.Holds) > 0 {
		if dst, err = appendHolds(append(dst, `,"holds":[`...), s.Holds); err != nil {
			return nil, fmt.Errorf("eventjson: encode state: %w", err)
		}
	}
	if s.SubjectID != uuid.Nil {
		dst = append(appendID(append(dst, `,"subject_id":"`...), s.SubjectID), '"')
	}
	if s.Erased {
		dst = append(dst, `,"erased":true`...)
	}
	if dst, err = appendEnd(dst, "", "", s.Metadata); err != nil {
		return nil, fmt.Errorf("eventjson: encode state: %w", err)
	}
	return dst, nil
}

func appendHolds(dst []byte, holds []account.Hold) (_ []byte, err error) {
	for i, h := range holds {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendID(append(dst, `{"hold_id":"`...), h.ID)
		dst = strconv.AppendInt(append(dst, `","amount":`...), h.Amount, 10)
		if !h.ExpiresAt.IsZero() {
			if dst, err = appendTime(append(dst, `,"expires_at":`...), h.ExpiresAt); err != nil {
				return nil, err
			}
		}
		dst = append(dst, '}')
	}
	return append(dst, ']'), nil
}

// UnmarshalState is the inverse of MarshalState, and accepts any spacing and order of keys. For a snapshot of another
// StateVersion it returns ErrUnknownSchema: ignore the snapshot and fold the events.
func UnmarshalState(data []byte) (account.State, error) {
	var w wireState
	if err := json.Unmarshal(data, &w); err != nil {
		return account.State{}, fmt.Errorf("eventjson: decode state: %w", err)
	}
	if w.StateVersion != StateVersion {
		return account.State{}, fmt.Errorf("%w %d of a state: this code knows %d", ErrUnknownSchema, w.StateVersion, StateVersion)
	}
	if w.Sealed != nil {
		return account.State{}, errSealed
	}
	s, err := w.state()
	if err != nil {
		return account.State{}, fmt.Errorf("eventjson: decode state: %w", err)
	}
	return s, nil
}

func (w *wireState) state() (s account.State, err error) {
	status, ok := statusOf(w.Status)
	if !ok {
		return s, fmt.Errorf("status %q", w.Status)
	}
	c, ok := money.LookupCurrency(w.Currency)
	if !ok {
		return s, fmt.Errorf("%w %q", money.ErrUnknownCurrency, w.Currency)
	}
	if w.Balance == nil || w.OverdraftLimit == nil || *w.OverdraftLimit < 0 || w.Held == nil {
		return s, errors.New("balance, overdraft_limit or held is missing or impossible")
	}
	s = account.State{
		Status: status, Owner: w.Owner, Currency: c, Balance: *w.Balance, OverdraftLimit: *w.OverdraftLimit,
		Held: *w.Held, Metadata: account.NewMetadata(w.Metadata), Erased: w.Erased,
	}
	if w.SubjectID != "" {
		if s.SubjectID, err = parseID(account.FieldSubject, []byte(w.SubjectID)); err != nil {
			return s, err
		}
	}
	if !s.Fits() {
		return s, errors.New("balance, overdraft_limit and held overflow")
	}
	s.Holds, err = w.holds()
	return s, err
}

// holds returns the holds, which must be ordered by id and add up to held.
func (w *wireState) holds() ([]account.Hold, error) {
	var holds []account.Hold
	var sum int64
	for i, wire := range w.Holds {
		id, err := parseID(account.FieldHold, []byte(wire.ID))
		if err != nil {
			return nil, err
		}
		h := account.Hold{ID: id, Amount: wire.Amount}
		if wire.ExpiresAt != "" {
			if h.ExpiresAt, err = parseTime(account.FieldExpiresAt, wire.ExpiresAt); err != nil {
				return nil, err
			}
		}
		if i > 0 && bytes.Compare(holds[i-1].ID[:], id[:]) >= 0 {
			return nil, errors.New("the holds are out of order")
		}
		var ok bool
		if sum, ok = money.AddMinor(sum, h.Amount); !ok || h.Amount <= 0 {
			return nil, fmt.Errorf("the amount of hold %s is %d", id, h.Amount)
		}
		holds = append(holds, h)
	}
	if sum != *w.Held {
		return nil, fmt.Errorf("held is %d, but the holds add up to %d", *w.Held, sum)
	}
	return holds, nil
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
