package report

import (
	"bytes"
	"fmt"
	"os"
)

// The comments between which a document holds the last run.
const (
	docBegin = "<!-- bench:begin (written by make bench BENCH_DOC=1) -->"
	docEnd   = "<!-- bench:end -->"
)

// WriteDoc puts the run between the two comments of a Markdown document, in place of the one that is there.
func (r *Report) WriteDoc(path string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, hasBegin := bytes.Cut(doc, []byte(docBegin))
	_, after, hasEnd := bytes.Cut(rest, []byte(docEnd))
	if !hasBegin || !hasEnd {
		return fmt.Errorf("%s has no place for the figures: %s … %s", path, docBegin, docEnd)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(docBegin + "\n\n")
	if err := r.Markdown(&out); err != nil {
		return err
	}
	out.WriteString("\n" + docEnd)
	out.Write(after)
	return os.WriteFile(path, out.Bytes(), 0o644)
}
