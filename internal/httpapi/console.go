package httpapi

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"

	"github.com/go-chi/chi/v5"

	"passbook/web"
)

// consolePolicy is the Content-Security-Policy of the console: only files and API of this server, nothing inline.
const consolePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaTypes maps extensions of the console's files to media types. The system's own tables vary.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// staticFile is a file in the form in which it is sent.
type staticFile struct {
	mediaType, tag string
	body           []byte
}

// console maps paths on this server to the console's files. The page itself is /console.
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
			return fmt.Errorf("the extension of %s has no media type", name)
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

// serveConsole sends a file that a browser may store but must revalidate, so that a new server never runs with old scripts.
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

// consoleRoutes adds the files of the page. They are public and need no database.
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
