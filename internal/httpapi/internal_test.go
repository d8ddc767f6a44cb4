package httpapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"passbook/api"
	"passbook/internal/account"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
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
		if got := traceID(header); got != want {
			t.Errorf("%q: got %q", header, got)
		}
	}
}

func TestBindingProblem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want genapi.FieldError
	}{
		{&genapi.InvalidParamFormatError{ParamName: "limit"}, genapi.FieldError{Parameter: "limit", Code: "invalid", Detail: "limit is not valid"}},
		{&genapi.RequiredParamError{ParamName: "limit"}, genapi.FieldError{Parameter: "limit", Code: "invalid", Detail: "limit is required"}},
		{
			&genapi.TooManyValuesForParamError{ParamName: "If-Match"},
			genapi.FieldError{Header: "If-Match", Code: "invalid", Detail: "If-Match is given more than once"},
		},
	} {
		if p := bindingProblem(tt.err); len(p.body.Errors) != 1 || p.body.Errors[0] != tt.want || p.body.Status != 400 {
			t.Errorf("%v: %+v", tt.err, p.body)
		}
	}
	if p := bindingProblem(errors.New("other")); p.body.Status != 400 || strings.Contains(p.body.Detail, "other") {
		t.Errorf("%+v", p.body)
	}
}

// Whatever the body, it is taken or refused with a client's fault; and an amount that is taken is exactly its text.
func FuzzAmountBody(f *testing.F) {
	for _, amount := range []string{
		`"12.34"`, `12.34`, `100`, `0.01`, `-1`, `1e3`, `NaN`, `null`, `[]`, `{}`, `""`, `"١"`, `01`, `1.0e`, `"\u0031"`, "1,\"amount\":2",
	} {
		f.Add([]byte(`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":` + amount + `}`))
	}
	f.Add([]byte(`{"a":[{"b":null}],"amount":{"amount":[1]}}`))
	sp, err := loadSpec(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		form, err := readForm(raw, sp.moneyMovement)
		if err == nil {
			var amount money.Decimal
			id := form.id("account_id")
			amount, ok := form.decimal("amount")
			_ = form.currency(money.LookupCurrency)
			err = form.err()
			if err == nil && (!ok || id == (uuid.UUID{})) {
				t.Fatalf("%q: taken without an amount or an account", raw)
			}
			if text := fmt.Sprint(form.members["amount"]); ok && amount.String() != text {
				t.Fatalf("%q: the amount is %s", raw, amount)
			}
		}
		if err == nil {
			return
		}
		p := problemOf(err)
		if p == nil || p.body.Status < 400 || p.body.Status > 499 {
			t.Fatalf("%q: %v", raw, err)
		}
		if _, err := json.Marshal(&p.body); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// A key that is taken is the same in its bare and its quoted form.
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
		if !visibleASCII(key, maxKeyLen) {
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

// A version that is taken stands in the list as it is written, and its tag matches.
func FuzzIfMatch(f *testing.F) {
	for _, value := range []string{`*`, `"3"`, `"0"`, `"03"`, `W/"3"`, `"-1"`, `"9223372036854775807"`, `"9223372036854775808"`, `"`, ``} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		_ = noneMatch(value, `"3"`)
		_, _ = preferredWait(value)
		versions, err := parseIfMatch(value)
		if err == nil && versions == nil && value != "*" {
			t.Fatalf("%q is taken for *", value)
		}
		for _, version := range versions {
			if !strings.Contains(value, versionTag(version)) || noneMatch(value, versionTag(version)) {
				t.Fatalf("%q: took %v", value, version)
			}
		}
	})
}

func TestEveryKnownErrorHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	for _, k := range known {
		p := problemOf(fmt.Errorf("wrapped: %w", k.err))
		if p == nil || p.body.Code != k.kind.code || p.body.Status != k.kind.status {
			t.Errorf("%v: %+v", k.err, p)
		}
		if (k.kind.status == 503) != (k.retryAfter > 0) && k.kind != kindKeyInFlight {
			t.Errorf("%v: Retry-After goes with 503", k.err)
		}
	}
	if p := problemOf(&account.Refusal{Code: "x", Detail: "y"}); p.body.Errors != nil {
		t.Errorf("%+v", p.body)
	}
}
