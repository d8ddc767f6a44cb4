package request

import (
	"crypto/sha256"
	stdjson "encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
)

// Command is a command that a request asks for.
type Command struct {
	Kind       *Kind
	AccountID  uuid.UUID
	Command    account.Command
	IfVersions []int64
	// Key is the idempotency key, or "". Fingerprint is set only with a key; equal requests have equal fingerprints.
	Key         string
	Fingerprint [16]byte
	Source      Source
}

// fingerprint hashes what makes two requests equal: the operation and the body in canonical form.
func (c *Command) fingerprint(operation string, appendBody func(b []byte) []byte) {
	if c.Key == "" {
		return
	}
	buf := append(append(make([]byte, 0, 256), operation...), 0) // no operation ends with a NUL
	sum := sha256.Sum256(appendBody(buf))
	copy(c.Fingerprint[:], sum[:])
}

// Kind describes one kind of command, on its own route and as an item of POST /commands.
type Kind struct {
	// Name is its name in package account.
	Name string
	// Status is the status of a success.
	Status int
	// Opens says that the command opens the account: its response has a Location, and it must not have an If-Match.
	Opens bool
	// schema describes the body on the command's route, item the fields in POST /commands. They differ if the route's path names
	// the account.
	schema, item *openapi3.Schema
	needsBody    bool
	// patches says that the body is a merge patch.
	patches bool
	// build makes the command and its account from the fields and the path. It leaves out bad fields; the form records them.
	build func(f *form, p Path) (uuid.UUID, account.Command)
}

// Path has the ids in the path of a command's route; a nil id may be in the body.
type Path struct{ AccountID, HoldID uuid.UUID }

func (p Path) account(f *form) uuid.UUID {
	if p.AccountID != uuid.Nil {
		return p.AccountID
	}
	return f.id("account_id")
}

func (p Path) hold(f *form) uuid.UUID {
	if p.HoldID != uuid.Nil {
		return p.HoldID
	}
	return f.id("hold_id")
}

// newKinds returns the kinds by their names in POST /commands, which are those in package account.
func newKinds(s *Spec) map[string]*Kind {
	movement := func(build func(money.Decimal, money.Currency, string, account.Metadata) account.Command) *Kind {
		return &Kind{
			Status: http.StatusCreated, schema: s.moneyMovement, item: s.moneyMovement, needsBody: true,
			build: func(f *form, _ Path) (uuid.UUID, account.Command) {
				amount, _ := f.decimal("amount")
				return f.id("account_id"), build(amount, f.currency(money.LookupCurrency), f.text("reference"), f.labels())
			},
		}
	}
	status := func(build func(reason string) account.Command) *Kind {
		return &Kind{
			Status: http.StatusOK, schema: s.statusChange, item: s.naming(s.statusChange, "account_id"),
			build: func(f *form, p Path) (uuid.UUID, account.Command) { return p.account(f), build(f.text("reason")) },
		}
	}
	kinds := map[string]*Kind{
		account.Open{}.Name(): {
			Status: http.StatusCreated, schema: s.openAccount, item: s.openAccount, needsBody: true, Opens: true, build: buildOpen,
		},
		account.Deposit{}.Name(): movement(func(a money.Decimal, c money.Currency, reference string, m account.Metadata) account.Command {
			return account.Deposit{Amount: a, Currency: c, Reference: reference, Metadata: m}
		}),
		account.Withdraw{}.Name(): movement(func(a money.Decimal, c money.Currency, reference string, m account.Metadata) account.Command {
			return account.Withdraw{Amount: a, Currency: c, Reference: reference, Metadata: m}
		}),
		account.Transfer{}.Name(): {
			Status: http.StatusCreated, schema: s.transfer, item: s.transfer, needsBody: true, build: buildTransfer,
		},
		account.Suspend{}.Name():    status(func(reason string) account.Command { return account.Suspend{Reason: reason} }),
		account.Reactivate{}.Name(): status(func(reason string) account.Command { return account.Reactivate{Reason: reason} }),
		account.Close{}.Name():      status(func(reason string) account.Command { return account.Close{Reason: reason} }),
		account.Change{}.Name(): {
			Status: http.StatusOK, schema: s.changeAccount, item: s.naming(s.changeAccount, "account_id"), needsBody: true, patches: true,
			build: buildChange,
		},
		account.PlaceHold{}.Name(): {
			Status: http.StatusCreated, schema: s.placeHold, item: s.naming(s.placeHold, "account_id"), needsBody: true, build: buildHold,
		},
		account.CaptureHold{}.Name(): {
			Status: http.StatusOK, schema: s.captureHold, item: s.naming(s.captureHold, "account_id", "hold_id"), build: buildCapture,
		},
		account.ReleaseHold{}.Name(): {
			Status: http.StatusOK, schema: s.releaseHold, item: s.naming(s.releaseHold, "account_id", "hold_id"),
			build: func(f *form, p Path) (uuid.UUID, account.Command) {
				return p.account(f), account.ReleaseHold{HoldID: p.hold(f), Reason: f.text("reason")}
			},
		},
		account.Reverse{}.Name(): {
			Status: http.StatusCreated, schema: s.reverse, item: s.reverse, needsBody: true, build: buildReversal,
		},
	}
	for name, k := range kinds {
		k.Name = name
	}
	return kinds
}

func buildOpen(f *form, _ Path) (uuid.UUID, account.Command) {
	id := f.id("account_id")
	if !f.has("account_id") {
		id = newID()
	}
	return id, account.Open{
		Owner: f.text("owner"), Currency: f.currency(activeCurrency), OverdraftLimit: f.optionalDecimal("overdraft_limit"),
		InitialDeposit: f.optionalDecimal("initial_deposit"), Metadata: f.labels(), SubjectID: f.id("subject_id"),
	}
}

func buildChange(f *form, p Path) (uuid.UUID, account.Command) {
	change := account.Change{OverdraftLimit: f.optionalDecimal("overdraft_limit")}
	if f.has("owner") {
		owner := f.text("owner")
		change.Owner = &owner
	}
	change.Metadata, change.ClearMetadata = f.patch()
	return p.account(f), change
}

func buildHold(f *form, p Path) (uuid.UUID, account.Command) {
	amount, _ := f.decimal("amount")
	return p.account(f), account.PlaceHold{
		HoldID: f.id("hold_id"), Amount: amount, Currency: f.currency(money.LookupCurrency), Reference: f.text("reference"),
		ExpiresAt: f.time("expires_at"), Metadata: f.labels(),
	}
}

func buildCapture(f *form, p Path) (uuid.UUID, account.Command) {
	return p.account(f), account.CaptureHold{
		HoldID: p.hold(f), Amount: f.optionalDecimal("amount"), To: f.id("to_account_id"), Reference: f.text("reference"),
		Metadata: f.labels(),
	}
}

// buildReversal leaves the account empty: the write side finds the movement.
func buildReversal(f *form, _ Path) (uuid.UUID, account.Command) {
	return uuid.Nil, account.Reverse{
		Position: f.integer("position"), Amount: f.optionalDecimal("amount"), Reason: f.text("reason"), Force: f.flag("force"),
	}
}

func buildTransfer(f *form, _ Path) (uuid.UUID, account.Command) {
	amount, _ := f.decimal("amount")
	return f.id("from_account_id"), account.Transfer{
		TransferID: f.id("transfer_id"), To: f.id("to_account_id"), Amount: amount,
		Currency: f.currency(money.LookupCurrency), Reference: f.text("reference"), Metadata: f.labels(),
	}
}

// Read reads the command that a request asks for. Its error is an *Error.
func (k *Kind) Read(w http.ResponseWriter, r *http.Request, p Path) (Command, error) {
	c := Command{Kind: k, Source: Source{accountInPath: p.AccountID != uuid.Nil, holdInPath: p.HoldID != uuid.Nil}}
	var err error
	if c.Key, err = IdempotencyKey(r.Header); err != nil {
		return c, err
	}
	if c.IfVersions, err = ifMatch(r.Header, k.Opens); err != nil {
		return c, HeaderError("If-Match", err)
	}
	raw, err := readBody(w, r, k.patches)
	if err != nil {
		return c, err
	}
	operation := r.Method + "\x00" + r.URL.Path
	if m, plain := readPlainMovement(raw, false); plain && m.build(&c) {
		c.fingerprint(operation, m.appendCanonical)
		return c, nil
	}
	f := new(form)
	switch {
	case len(raw) > 0:
		if f, err = readForm(raw, k.schema); err != nil {
			return c, err
		}
	case k.needsBody:
		return c, newError(InvalidJSON, "The body is empty; send a JSON object.")
	}
	c.AccountID, c.Command = k.build(f, p)
	c.fingerprint(operation, func(b []byte) []byte { return appendCanonical(b, "", f.members) })
	return c, f.err()
}

// ifMatch returns the versions in If-Match, nil for no condition.
func ifMatch(h http.Header, opens bool) ([]int64, error) {
	values := h["If-Match"]
	switch {
	case len(values) == 0:
		return nil, nil
	case opens:
		return nil, errNothingToMatch
	}
	return parseIfMatch(strings.Join(values, ", "))
}

// itemOperation is the operation in the fingerprint of an item.
const itemOperation = "POST\x00/commands"

// ReadItem reads one item of POST /commands. batchKey is the Idempotency-Key of the whole request, or "". An item without a key
// of its own gets one made of batchKey and its index. The error is an *Error.
func (s *Spec) ReadItem(raw []byte, batchKey string, index int) (Command, error) {
	if m, plain := readPlainMovement(raw, true); plain {
		if c, ok := s.plainItem(&m, batchKey, index); ok {
			return c, nil
		}
	}
	return s.generalItem(raw, batchKey, index)
}

// plainItem is generalItem for a plain deposit or withdrawal.
func (s *Spec) plainItem(m *plainMovement, batchKey string, index int) (Command, bool) {
	c := Command{Kind: s.kinds[string(m.command)], Source: itemSource(m.key != nil)}
	if c.Kind == nil || m.key != nil && !VisibleASCII(string(m.key), maxKeyLen) || !m.build(&c) {
		return c, false
	}
	c.Key = itemKey(string(m.key), batchKey, index)
	c.fingerprint(itemOperation, m.appendCanonical)
	return c, true
}

func (s *Spec) generalItem(raw []byte, batchKey string, index int) (Command, error) {
	var c Command
	value, err := decodeJSON(raw)
	if err != nil {
		return c, err
	}
	members, ok := value.(map[string]any)
	if !ok {
		return c, newError(InvalidBody, "A command must be a JSON object.")
	}
	name, _ := members["command"].(string)
	if c.Kind = s.kinds[name]; c.Kind == nil {
		return c, newError(InvalidBody, "command must be one of "+strings.Join(slices.Sorted(maps.Keys(s.kinds)), ", ")+".",
			genapi.FieldError{Pointer: "/command", Code: "unknown-command", Detail: "command must be the name of a command"})
	}
	var refused []finding
	key, given := members[FieldKey]
	delete(members, FieldKey)
	text, isText := key.(string)
	if given && (!isText || !VisibleASCII(text, maxKeyLen)) {
		refused = append(refused, finding{path: []string{FieldKey}, code: "malformed", sentence: "must be 1 to 255 visible ASCII characters"})
	}
	c.Key, c.Source = itemKey(text, batchKey, index), itemSource(given)
	c.fingerprint(itemOperation, func(b []byte) []byte { return appendCanonical(b, "", members) })
	if version, given := members[FieldVersion]; given {
		literal, isNumber := version.(stdjson.Number)
		n, err := strconv.ParseInt(string(literal), 10, 64)
		if !isNumber || err != nil || n < 0 || c.Kind.Opens {
			refused = append(refused, finding{path: []string{FieldVersion}, code: "malformed", sentence: "must be the version of an account that is open"})
		}
		c.IfVersions = []int64{n}
	}
	delete(members, "command")
	delete(members, FieldVersion)
	f := newForm(members, c.Kind.item)
	for _, found := range refused {
		f.add(found)
	}
	c.AccountID, c.Command = c.Kind.build(f, Path{})
	return c, f.err()
}

// KeyFromOtherItem replaces the key of the whole request in a call of ReadItem: CompleteKeys will set the keys of items without a
// key of their own.
const KeyFromOtherItem = "\x00" // no key holds a NUL

// CompleteKeys gives the items of an atomic request without a key of their own one made of the first key among them, so that a
// retry replays all of them. If no item has a key, none gets one. The items must have been read with KeyFromOtherItem, or with
// the key of the whole request. Their fingerprints become one: with other items, or without atomic, the same key belongs to a
// different request.
func CompleteKeys(items []*Command) {
	var first string
	for _, c := range items {
		if !strings.HasPrefix(c.Key, KeyFromOtherItem) {
			first = c.Key
			break
		}
	}
	for _, c := range items {
		rest, open := strings.CutPrefix(c.Key, KeyFromOtherItem)
		if open {
			c.Source.key = keyFromOtherItem
		}
		switch {
		case !open:
		case first == "":
			c.Key = ""
		default:
			c.Key = first + rest
		}
	}
	group := sha256.New()
	for _, c := range items {
		group.Write(c.Fingerprint[:])
	}
	for _, c := range items {
		sum := sha256.Sum256(append(group.Sum(nil), c.Fingerprint[:]...))
		copy(c.Fingerprint[:], sum[:])
	}
}

// itemKey returns the key of an item: its own, or one made of the key of the whole request.
func itemKey(own, batchKey string, index int) string {
	if own != "" || batchKey == "" {
		return own
	}
	return batchKey + "\x00" + strconv.Itoa(index)
}

func activeCurrency(code string) (money.Currency, bool) {
	c, err := money.ParseCurrency(code)
	return c, err == nil
}

// newID returns the id of an account whose client has not chosen one. Such ids increase with time, which keeps indexes dense.
func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.New()
	}
	return id
}
