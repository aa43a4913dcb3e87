package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"path"
	"time"
)

// pageFiles are the live page's. It draws what the process's own /metrics says, and
// knows nothing else.
//
//go:embed page/*.html page/*.css page/*.js page/*.svg page/uplot/*.js page/uplot/*.css page/uplot/LICENSE
var pageFiles embed.FS

// pagePolicy lets the page load its own files and ask its own process, and do
// nothing else. A frame around it, a form or a foreign script are refused.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mountPage serves the page at / and its parts below /page/.
func mountPage(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, "index.html") })
	// Neither a second address of it nor a redirection to one.
	mux.Handle("GET /page", http.NotFoundHandler())
	mux.Handle("GET /page/index.html", http.NotFoundHandler())
	mux.HandleFunc("GET /page/{file...}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, r.PathValue("file")) })
}

func servePage(w http.ResponseWriter, r *http.Request, file string) {
	content, err := pageFiles.ReadFile("page/" + file)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	// Not by the system's table of types, which may lack or redefine them.
	switch path.Ext(file) {
	case ".html":
		header.Set("Content-Type", "text/html; charset=utf-8")
	case ".css":
		header.Set("Content-Type", "text/css; charset=utf-8")
	case ".js":
		header.Set("Content-Type", "text/javascript; charset=utf-8")
	case ".svg":
		header.Set("Content-Type", "image/svg+xml")
	default:
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	// A browser asks each time, so that page and process are of one version.
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
	http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(content))
}
