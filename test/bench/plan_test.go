package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	all, err := choose(nil)
	if err != nil || len(all) != len(plan) {
		t.Fatalf("%v, %v", all, err)
	}
	for only, want := range map[string]string{"P3": "P3", "P8": "P1 P5 P8", "P10": "P10 P2", "P2,LAT": "LAT P2"} {
		chosen, err := choose(strings.Split(only, ","))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, id := range allIDs() {
			if chosen[id] {
				got = append(got, id)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s chooses %v, want %s", only, got, want)
		}
	}
	if _, err := choose([]string{"P11"}); err == nil || !strings.Contains(err.Error(), "P1, P1-AUDITED") {
		t.Errorf("an unknown measurement: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	server := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(server, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(string) string { return "" }
	tests := map[string]struct {
		args []string
		bad  string
	}{
		"plain":        {nil, ""},
		"some":         {[]string{"-run", "p1,P3"}, ""},
		"no rounds":    {[]string{"-rounds", "0"}, "at least one round"},
		"too short":    {[]string{"-duration", "10ms"}, "at least one round"},
		"too many":     {[]string{"-clients", "81"}, "1 to 80"},
		"one account":  {[]string{"-accounts", "1"}, "two accounts"},
		"no room":      {[]string{"-events", "9999"}, "ten times"},
		"partial doc":  {[]string{"-run", "P1", "-doc", "x.md"}, "-doc needs"},
		"no server":    {[]string{"-server", server + "-not"}, "build the server first"},
		"unknown flag": {[]string{"-nope"}, "nope"},
		"argument":     {[]string{"nope"}, "nope"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			o, err := parse(append([]string{"-server", server}, test.args...), env, &stderr)
			switch {
			case test.bad == "" && err != nil:
				t.Error(err)
			case test.bad != "" && (err == nil || !strings.Contains(err.Error(), test.bad)):
				t.Errorf("error %v, want %q", err, test.bad)
			case name == "some" && strings.Join(o.only, " ") != "P1 P3":
				t.Errorf("%v", o.only)
			}
		})
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{10_000_000: "10 M", 1_500_000: "1.5 M", 200_000: "200 k", 1_234_567: "1234567", 999: "999"} {
		if got := count(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
