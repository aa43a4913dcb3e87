package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mailtally/mailtally/tracking"
)

// askPage requests a page from an admin port.
func askPage(method, target string, header http.Header) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	adminHandler(context.Background(), newRegistry()).ServeHTTP(w, r)
	return w.Result()
}

func pageFile(t *testing.T, name string) string {
	t.Helper()
	content, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pagePaths lists all paths that the page serves.
func pagePaths(t *testing.T) (paths []string) {
	t.Helper()
	if err := fs.WalkDir(pageFiles, "page", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && name != "page/index.html" {
			paths = append(paths, "/"+name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return append(paths, "/")
}

func TestPage_Served(t *testing.T) {
	t.Parallel()
	types := map[string]string{
		"/": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
		".svg": "image/svg+xml", "LICENSE": "text/plain; charset=utf-8",
	}
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
	}
	for _, path := range pagePaths(t) {
		got := askPage("GET", path, nil)
		if got.StatusCode != http.StatusOK || got.ContentLength == 0 {
			t.Errorf("%s: %s, %d bytes", path, got.Status, got.ContentLength)
		}
		kind := ""
		for suffix, name := range types {
			if strings.HasSuffix(path, suffix) {
				kind = name
			}
		}
		if has := got.Header.Get("Content-Type"); has != kind || kind == "" {
			t.Errorf("%s is %q, want %q", path, has, kind)
		}
		for name, value := range want {
			if has := got.Header.Get(name); has != value {
				t.Errorf("%s: %s is %q, want %q", path, name, has, value)
			}
		}
		if head := askPage("HEAD", path, nil); head.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %s", path, head.Status)
		}
		known := http.Header{"If-None-Match": {got.Header.Get("ETag")}}
		if again := askPage("GET", path, known); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s, which the browser has: %s", path, again.Status)
		}
		if post := askPage("POST", path, nil); post.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s", path, post.Status)
		}
	}
	for _, path := range []string{"/page", "/page/", "/page/index.html", "/page/uplot", "/page/uplot/", "/page/none.js", "/index.html",
		"/page/page.go", "/page/%2e%2e/page.go", "/page/uplot/README.md", "/favicon.ico"} {
		if got := askPage("GET", path, nil); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, want 404", path, got.Status)
		}
	}
}

// The page needs nothing that the process does not serve, and nothing that its policy
// forbids.
func TestPage_SelfContained(t *testing.T) {
	t.Parallel()
	// For readers to follow; nothing is loaded from there.
	const projectLink = `href="https://github.com/mailtally/mailtally"`
	served := map[string]bool{"/metrics": true, "/readyz": true, "/healthz": true}
	size := 0
	for _, path := range pagePaths(t) {
		served[path] = true
		if path == "/" || strings.HasPrefix(path, "/page/uplot/") {
			continue
		}
		content := pageFile(t, strings.TrimPrefix(path, "/page/"))
		size += len(content)
		for _, match := range regexp.MustCompile(`from '\./([^']+)'`).FindAllStringSubmatch(content, -1) {
			if !strings.Contains(content, "import") || pageFile(t, match[1]) == "" {
				t.Errorf("%s imports %s", path, match[1])
			}
		}
		if url := regexp.MustCompile(`(https?:)?//[a-z]+\.[a-z.]+[^'" ]*`).FindString(strings.NewReplacer("http://www.w3.org/2000/svg", "", projectLink, "").Replace(content)); url != "" {
			t.Errorf("%s names %s", path, url)
		}
	}
	if size > 64<<10 {
		t.Errorf("the page's own files have grown to %d bytes", size)
	}
	html := pageFile(t, "index.html")
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if !served["/"+match[1]] && match[0] != projectLink {
			t.Errorf("the page refers to %q, which is not served", match[1])
		}
	}
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(?:>| [^>]*>[^<])|javascript:`).FindString(html); inline != "" {
		t.Errorf("the page has %q, which its policy forbids", inline)
	}
}

// The plotting library is npm's uplot 1.6.32, to the byte.
func TestPage_PlottingLibrary(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"uplot/uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"uplot/uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"uplot/LICENSE":           "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	} {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(pageFile(t, name)))); got != want {
			t.Errorf("%s has SHA-256 %s, want %s", name, got, want)
		}
	}
}

// Each label value that the metrics can have is explained in plain words.
func TestPage_Words(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{
		"types":   {tracking.Type(0).String()},
		"retries": append(tracking.RetryReasons(), "dead_letter"),
	}
	for _, typ := range tracking.Types() {
		labels["types"] = append(labels["types"], typ.String())
	}
	for _, reason := range tracking.Reasons() {
		labels["reasons"] = append(labels["reasons"], string(reason))
	}
	words := pageFile(t, "words.js")
	for name, list := range labels {
		object := regexp.MustCompile(`(?s)\nexport const ` + name + ` = \{(.*?)\n\};`).FindString(words)
		for _, label := range list {
			if !regexp.MustCompile(`\b` + label + `: '[^']`).MatchString(object) {
				t.Errorf("words.js has no words for %s in %s", label, name)
			}
		}
	}
}

// Text has the contrast that WCAG 2 AA requires of text, and lines and marks that of
// graphics, in light and in dark.
func TestPage_Contrast(t *testing.T) {
	t.Parallel()
	roots := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(pageFile(t, "style.css"), -1)
	if len(roots) != 2 {
		t.Fatalf("style.css has %d palettes, want light and dark", len(roots))
	}
	for i, scheme := range []string{"light", "dark"} {
		colors := make(map[string]float64)
		for _, match := range regexp.MustCompile(`--(\w+): #(\w{6});`).FindAllStringSubmatch(roots[i][1], -1) {
			colors[match[1]] = luminance(t, match[2])
		}
		for name, least := range map[string]float64{
			"text": 4.5, "muted": 4.5, "main": 4.5, // links are of the main colour
			"refused": 3, "ignored": 3, "dead": 3, "repeat": 3, "good": 3,
		} {
			for _, ground := range []string{"ground", "card"} {
				lighter, darker := max(colors[name], colors[ground]), min(colors[name], colors[ground])
				if ratio := (lighter + 0.05) / (darker + 0.05); ratio < least {
					t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, name, ground, ratio, least)
				}
			}
		}
	}
}

// luminance is the relative luminance of a colour of sRGB, as WCAG 2 defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	rgb, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(c uint64) float64 {
		v := float64(c&0xff) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(rgb>>16) + 0.7152*linear(rgb>>8) + 0.0722*linear(rgb)
}
