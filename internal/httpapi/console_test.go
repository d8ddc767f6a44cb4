package httpapi_test

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"passbook/web"
)

const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// consoleFiles returns the console's files by their paths on the server.
func consoleFiles(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(web.Console(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(web.Console(), name)
		files[strings.TrimSuffix("/console/"+name, "/index.html")] = string(text)
		return err
	})
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

func TestConsole(t *testing.T) {
	t.Parallel()
	s := new(service)
	s.starting.Store(true) // the console needs no database
	a := serve(t, s)
	for where, text := range consoleFiles(t) {
		got := a.send("GET", where, "")
		h := got.header
		if got.status != 200 || got.text != text || h.Get("Content-Security-Policy") != consolePolicy ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", where, got.status, h)
		}
		if strings.HasSuffix(where, ".js") && h.Get("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("%s is %s, which no browser runs", where, h.Get("Content-Type"))
		}
		if again := a.send("GET", where, "", "If-None-Match", h.Get("ETag")); again.status != 304 || again.text != "" || again.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v", where, again.status, again.header)
		}
	}
	for where, want := range map[string]int{"/console/": 301, "/console/nothing.js": 404, "/console/index.html": 404, "/console/pages": 404, "/console/..%2fweb.go": 404} {
		if got := a.send("GET", where, ""); got.status != want {
			t.Errorf("%s: %d, want %d", where, got.status, want)
		}
	}
	if got := a.send("POST", "/console/main.js", ""); got.status != 405 {
		t.Errorf("%d", got.status)
	}
}

// Every reference has its file, every file is referred to, and nothing is external or inline, which the policy would refuse.
func TestConsoleIsComplete(t *testing.T) {
	t.Parallel()
	files := consoleFiles(t)
	used := map[string]bool{"/console": true}
	absolute := regexp.MustCompile(`\b(?:src|href|action)="/`)
	references := regexp.MustCompile(`(?:src|href)="(console[^"#]*)"|from '(\.[^']+)'`)
	for where, text := range files {
		for _, m := range references.FindAllStringSubmatch(text, -1) {
			target := "/" + m[1] // relative to the page
			if m[2] != "" {
				target = path.Join(path.Dir(where), m[2])
			}
			if _, there := files[target]; !there {
				t.Errorf("%s refers to %s, which does not exist", where, target)
			}
			used[target] = true
		}
		if absolute.MatchString(text) {
			t.Errorf("%s does not work below a base path", where)
		}
		elsewhere := strings.NewReplacer("http://www.w3.org/2000/svg", "", "https://example.com", "").Replace(text)
		if strings.Contains(elsewhere, "http://") || strings.Contains(elsewhere, "https://") || strings.Contains(text, "innerHTML") {
			t.Errorf("%s refers to another server, or makes markup out of text", where)
		}
	}
	for where := range files {
		if !used[where] {
			t.Errorf("nothing refers to %s", where)
		}
	}
	if inline := regexp.MustCompile(`<style|<script>| style="| on[a-z]+="`).FindString(files["/console"]); inline != "" {
		t.Errorf("the page has %s in it", inline)
	}
}
