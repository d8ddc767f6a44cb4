package httpapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// docs is the page that renders openapi.yaml: Swagger UI, fully embedded.
type docs struct {
	page []byte
	// policy is the page's Content-Security-Policy: files of this server, and the page's inline scripts by their hashes.
	policy      string
	assets      http.Handler
	document    []byte // openapi.yaml
	documentTag string
}

func newDocs(document []byte, base basePath) (*docs, error) {
	ui := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Passbook API", SwaggerJSON: string(base) + "/openapi.yaml", BasePath: string(base) + "/docs/", InternalBasePath: "/docs/",
		SettingsUI: map[string]string{"defaultModelsExpandDepth": "1", "docExpansion": `"list"`},
	})
	// The page is the same for every request. It is rendered once, to hash its scripts.
	request, err := http.NewRequest(http.MethodGet, "/docs/", http.NoBody) //nolint:noctx // never sent
	if err != nil {
		return nil, err
	}
	page := &pageWriter{header: make(http.Header), status: http.StatusOK}
	ui.ServeHTTP(page, request)
	hashes := inlineScripts(page.Bytes())
	if page.status != http.StatusOK || len(hashes) == 0 {
		return nil, errors.New("httpapi: cannot render the documentation page")
	}
	document = bytes.Replace(document, []byte("\nservers:\n  - url: /\n"), []byte("\nservers:\n  - url: "+cmp.Or(string(base), "/")+"\n"), 1)
	return &docs{
		page: page.Bytes(),
		policy: "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self'; " +
			"style-src 'self' 'unsafe-inline'; script-src 'self' " + strings.Join(hashes, " ") +
			"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		assets:      ui,
		document:    document,
		documentTag: contentTag(document),
	}, nil
}

// pageWriter keeps a response in memory.
type pageWriter struct {
	bytes.Buffer
	header http.Header
	status int
}

func (p *pageWriter) Header() http.Header { return p.header }

func (p *pageWriter) WriteHeader(status int) { p.status = status }

// inlineScripts returns the CSP sources of the inline scripts of a page.
func inlineScripts(page []byte) []string {
	var sources []string
	for {
		_, rest, found := bytes.Cut(page, []byte("<script>"))
		if !found {
			return sources
		}
		var script []byte
		script, page, _ = bytes.Cut(rest, []byte("</script>"))
		sum := sha256.Sum256(script)
		sources = append(sources, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
}

// assetNames are the files that the page refers to.
var assetNames = []string{
	"swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "favicon-16x16.png", "favicon-32x32.png",
}

func (d *docs) routes(mux chi.Router) {
	for _, name := range assetNames {
		mux.Get("/docs/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=3600")
			d.assets.ServeHTTP(w, r)
		})
	}
	mux.Get("/docs/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/docs", http.StatusMovedPermanently)
	})
}
