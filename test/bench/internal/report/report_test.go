package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	atLeast := Rule{Must: 1, Goal: 1.5}
	atMost := Rule{Must: 25, Goal: 10, OfValue: true, AtMost: true}
	tests := map[string]struct {
		line Line
		want Verdict
	}{
		"goal":           {Line{Baseline: Series{10}, Measured: Series{15}, Rule: atLeast}, MetGoal},
		"must":           {Line{Baseline: Series{10}, Measured: Series{10}, Rule: atLeast}, MetMust},
		"short":          {Line{Baseline: Series{10}, Measured: Series{9.9}, Rule: atLeast}, Short},
		"no baseline":    {Line{Measured: Series{9.9}, Rule: atLeast}, Short},
		"value, goal":    {Line{Measured: Series{10}, Rule: atMost}, MetGoal},
		"value, must":    {Line{Measured: Series{10.1}, Rule: atMost}, MetMust},
		"value, short":   {Line{Measured: Series{25.1}, Rule: atMost}, Short},
		"value, nothing": {Line{Rule: atMost}, Short},
		"no goal":        {Line{Baseline: Series{1}, Measured: Series{1.5}, Rule: Rule{Must: 1.5, AtMost: true}}, MetMust},
		"no rule":        {Line{Measured: Series{1}}, NotJudged},
		"missing":        {Line{Rule: atLeast, Missing: "no route"}, NotThere},
		"failed":         {Line{Rule: atLeast, Failed: "no disk"}, Failed},
		"median":         {Line{Baseline: Series{1, 100, 10}, Measured: Series{20, 10, 1, 11}, Rule: atLeast}, MetMust},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.line.Judge(); test.line.Verdict != test.want {
				t.Errorf("%q, want %q (%+v)", test.line.Verdict, test.want, test.line)
			}
		})
	}
	r := Report{Lines: []Line{{Verdict: Short}, {Verdict: NotThere}, {Verdict: NotThere, Rule: atLeast}, {Verdict: MetMust}}}
	if r.Missed() != 2 {
		t.Errorf("%d missed, want 2", r.Missed())
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{
		0: "0.000", 0.0004: "0.000", 0.215: "0.215", 1.154: "1.15", 15.53: "15.5", 155.3: "155", 999.4: "999", 1000: "1,000",
		15553.4: "15,553", 1234567: "1,234,567",
	} {
		if got := short(value); got != want {
			t.Errorf("%v is printed as %s, want %s", value, got, want)
		}
	}
}

func TestWriteDoc(t *testing.T) {
	t.Parallel()
	line := Line{ID: "P1", What: "deposits", Versus: "INSERT", Unit: "/s", Baseline: Series{10, 20}, Measured: Series{30}, Latency: &Latency{P50: 1}}
	line.Judge()
	r := Report{Machine: ThisMachine("15"), Settings: "one round", Lines: []Line{line}}
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(path, []byte("before\n"+"<!-- bench:begin (by hand) -->\nold\n<!-- bench:end -->"+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 { // the second time in place of the first
		if err := r.WriteDoc(path); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
		}
		if !bytes.Equal(first, text) {
			t.Error("writing it twice is not the same as writing it once")
		}
	}
	for _, want := range []string{"before\n", "\nafter\n", "| P1 | deposits / INSERT | 15.0 /s | 30.0 /s | 2.00 | - | - | - |", "10.0–20.0 → 30.0–30.0"} {
		if !strings.Contains(string(first), want) {
			t.Errorf("%q is missing in:\n%s", want, first)
		}
	}
	if strings.Contains(string(first), "old") {
		t.Error("the old figures are still there")
	}
	if err := os.WriteFile(path, []byte("no place"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.WriteDoc(path) == nil {
		t.Error("a document without a place for the figures is no error")
	}
}
