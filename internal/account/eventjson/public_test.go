package eventjson_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"passbook/internal/account/eventjson"
)

func TestPublic(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`{"amount":9007199254740993,"currency":"EUR"}`:                              `{"amount":"90071992547409.93","currency":"EUR"}`,
		`{"amount":9223372036854775807,"currency":"KWD","reference":"a \"b\" {1}"}`: `{"amount":"9223372036854775.807","currency":"KWD","reference":"a \"b\" {1}"}`,
		`{"currency": "JPY", "amount": 500}`:                                        `{"currency":"JPY","amount":"500"}`,
		`{"owner":"Ada","currency":"EUR","overdraft_limit":5000,"decimals":2}`:      `{"owner":"Ada","currency":"EUR","overdraft_limit":"50.00","decimals":2}`,
		`{"overdraft_limit":7500,"currency":"EUR"}`:                                 `{"overdraft_limit":"75.00","currency":"EUR"}`,
		`{"amount":2000,"currency":"EUR","released":500}`:                           `{"amount":"20.00","currency":"EUR","released":"5.00"}`,
		`{"amount":1,"currency":"EUR","metadata":{"amount":"x","released":"y"}}`:    `{"amount":"0.01","currency":"EUR","metadata":{"amount":"x","released":"y"}}`,
		`{"amount":1,"currency":"EUR","reversed_position":7,"forced":true}`:         `{"amount":"0.01","currency":"EUR","reversed_position":7,"forced":true}`,
		`{"reason":"amount"}`: `{"reason":"amount"}`,
		`{}`:                  `{}`,
		`{"amount":1,"currency":"a currency of tomorrow"}`: `{"amount":1,"currency":"a currency of tomorrow"}`,
	} {
		if got, err := eventjson.Public([]byte(payload)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", payload, got, err)
		}
	}
	for _, payload := range []string{``, `{`, `[]`, `{"currency":1}`, `{"currency":"EUR","amount":1.5}`, `{"currency":"EUR","amount":"1"}`, `{"currency":"EUR"`} {
		if got, err := eventjson.Public([]byte(payload)); err == nil {
			t.Errorf("%s: %s", payload, got)
		}
	}
}

// TestPublicHasNoNumericAmounts checks the golden events of every version: only numbers that are not money stay numbers.
func TestPublicHasNoNumericAmounts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "State.") {
			continue // a snapshot, which is never published
		}
		payload, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		public, err := eventjson.Public(bytes.TrimSpace(payload))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var members map[string]any
		if err := json.Unmarshal(public, &members); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for name, value := range members {
			if _, number := value.(float64); number && name != "decimals" && name != "reversed_position" {
				t.Errorf("%s publishes %s as a number: %s", file, name, public)
			}
		}
	}
}
