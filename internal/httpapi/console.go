package httpapi

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"

	"github.com/go-chi/chi/v5"

	"passbook/web"
)

// consolePolicy is the Content-Security-Policy of the console: files and API of this server, and nothing in line.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaTypes are those of the console's files, by their extension. What the system's tables say varies.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// staticFile is a file as it is sent.
type staticFile struct {
	mediaType, tag string
	body           []byte
}

// console is the web console's files by their paths on this server. Its page is /console.
type console map[string]staticFile

func newConsole() (console, error) {
	c := make(console)
	files := web.Console()
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		mediaType, known := mediaTypes[path.Ext(name)]
		if !known {
			return fmt.Errorf("%s has no media type here", name)
		}
		where := "/console/" + name
		if name == "index.html" {
			where = "/console"
		}
		c[where] = staticFile{mediaType: mediaType, tag: contentTag(body), body: body}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("httpapi: the console's files: %w", err)
	}
	return c, nil
}

// serveConsole sends a file, which a browser may keep but asks about again, so that a new server never meets old scripts.
func (s *server) serveConsole(w http.ResponseWriter, r *http.Request, where string) {
	file := s.console[where]
	h := w.Header()
	h.Set("Content-Security-Policy", consolePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if !s.notModified(w, r, file.tag) {
		write(w, http.StatusOK, file.mediaType, file.body)
	}
}

// consoleRoutes adds the files that the page needs. They are open, and need no database.
func (s *server) consoleRoutes(mux chi.Router) {
	for where := range s.console {
		if where != "/console" {
			mux.Get(where, func(w http.ResponseWriter, r *http.Request) { s.serveConsole(w, r, where) })
		}
	}
	mux.Get("/console/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/console", http.StatusMovedPermanently)
	})
}

// Console serves GET /console.
func (s *server) Console(w http.ResponseWriter, r *http.Request) { s.serveConsole(w, r, "/console") }
