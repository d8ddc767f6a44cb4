package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// step is what happened in one step, as printed with --json.
type step struct {
	Step  int    `json:"step"`
	Title string `json:"title"`
	About string `json:"about"`
	// Calls are the requests and commands of the step, in order.
	Calls []call `json:"calls"`
	// Checks are what was expected of the responses.
	Checks  []check `json:"checks"`
	OK      bool    `json:"ok"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// call is one request, or another command that a person could type into a shell.
type call struct {
	// Command is what to type.
	Command string `json:"command"`
	// Status is that of an HTTP response, 0 for another command.
	Status int `json:"status,omitempty"`
	// Notes are the headers that the step is about.
	Notes []string `json:"notes,omitempty"`
	// Answer is JSON, or a JSON string of any other text.
	Answer json.RawMessage `json:"answer,omitempty"`
}

type check struct {
	Expect string `json:"expect"`
	OK     bool   `json:"ok"`
	Got    string `json:"got,omitempty"`
}

// expect records whether a check passed; got is shown if it did not.
func (s *step) expect(what string, so bool, got string) {
	c := check{Expect: what, OK: so}
	if !so {
		c.Got = got
	}
	s.Checks = append(s.Checks, c)
}

func (s *step) held() bool {
	return !slices.ContainsFunc(s.Checks, func(c check) bool { return !c.OK })
}

// presenter prints the steps. It ignores write errors: there is nowhere to report them.
type presenter struct {
	out          io.Writer
	json, colour bool
}

// longest is how much of a response is shown as text.
const longest = 300

func (p *presenter) paint(code, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *presenter) begin(s *step) {
	if p.json {
		return
	}
	fmt.Fprintf(p.out, "\n%s\n", p.paint("1", fmt.Sprintf("%2d  %s", s.Step, s.Title)))
	for line := range strings.Lines(s.About) {
		fmt.Fprintf(p.out, "    %s\n", p.paint("2", strings.TrimRight(line, "\n")))
	}
}

// tell prints progress.
func (p *presenter) tell(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.out, "    %s\n", fmt.Sprintf(format, args...))
	}
}

// called prints a call with its response.
func (p *presenter) called(c *call) {
	if p.json {
		return
	}
	fmt.Fprintf(p.out, "    %s %s\n", p.paint("36", "$"), p.paint("36", c.Command))
	answer := string(c.Answer)
	var text string
	if json.Unmarshal(c.Answer, &text) == nil {
		answer = text
	}
	if utf8.RuneCountInString(answer) > longest {
		answer = string([]rune(answer)[:longest]) + "…"
	}
	if c.Status > 0 {
		answer = strings.TrimSpace(fmt.Sprintf("%d %s", c.Status, answer))
	}
	for _, note := range c.Notes {
		fmt.Fprintf(p.out, "      %s\n", note)
	}
	for line := range strings.Lines(answer) {
		fmt.Fprintf(p.out, "      %s\n", strings.TrimRight(line, "\n"))
	}
}

func (p *presenter) end(s *step) {
	if p.json {
		encoder := json.NewEncoder(p.out)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(s)
		return
	}
	for _, c := range s.Checks {
		if c.OK {
			fmt.Fprintf(p.out, "    %s %s\n", p.paint("32", "ok"), c.Expect)
		} else {
			fmt.Fprintf(p.out, "    %s %s; got: %s\n", p.paint("31", "FAILED"), c.Expect, c.Got)
		}
	}
}

func (p *presenter) over(steps int) {
	if !p.json {
		fmt.Fprintf(p.out, "\n%s\n", p.paint("1", fmt.Sprintf("%d steps, all as expected.", steps)))
	}
}

func (p *presenter) kept(dir, binary string) {
	if !p.json {
		fmt.Fprintf(p.out, "\nThe database is kept in %s. To look around in it:\n  PASSBOOK_DATA_DIR=%s/data %s\n", dir, dir, binary)
	}
}
