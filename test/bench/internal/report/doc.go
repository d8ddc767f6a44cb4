package report

import (
	"bytes"
	"fmt"
	"os"
)

// WriteDoc replaces the run in a Markdown document.
func (r *Report) WriteDoc(path string) error {
	var out bytes.Buffer
	if err := r.Markdown(&out); err != nil {
		return err
	}
	return Put(path, "bench", out.String())
}

// Put replaces the text between two comments of a Markdown document: the first begins with
// "<!-- name:begin", the second is "<!-- name:end -->".
func Put(path, name, text string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := []byte("<!-- "+name+":begin"), []byte("<!-- "+name+":end -->")
	before, rest, hasBegin := bytes.Cut(doc, begin)
	comment, rest, closed := bytes.Cut(rest, []byte("-->"))
	_, after, hasEnd := bytes.Cut(rest, end)
	if !hasBegin || !closed || !hasEnd {
		return fmt.Errorf("%s has no place for the figures: %s … --> … %s", path, begin, end)
	}
	var out bytes.Buffer
	for _, part := range [][]byte{before, begin, comment, []byte("-->\n\n"), []byte(text), []byte("\n"), end, after} {
		out.Write(part)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
