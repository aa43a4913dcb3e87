package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"fmt"
	"net/http"
	"path"
	"time"
)

// pageFiles are the live page's. It draws the process's own /metrics, and reads nothing
// else.
//
//go:embed page/*.html page/*.css page/*.js page/*.svg page/uplot/*.js page/uplot/*.css page/uplot/LICENSE
var pageFiles embed.FS

// pagePolicy lets the page load its own files and query its own process, and nothing
// else. It may not be framed, submit forms or run foreign scripts.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageTypes are set here because the system's may be missing or redefined.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// mountPage serves the page at / and its parts below /page/.
func mountPage(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, "index.html") })
	// No second address for it, and no redirect to one.
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
	header.Set("Content-Type", cmp.Or(pageTypes[path.Ext(file)], "text/plain; charset=utf-8"))
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	// The browser revalidates each time, so that page and process are of one version.
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
	http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(content))
}
