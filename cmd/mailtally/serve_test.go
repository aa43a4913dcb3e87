package main

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A handler's panic is logged, with its place and without the client's address.
func TestServe_PanicIsLogged(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	written := newOutput()
	log, flush := newLogger(config{}, written)
	life := &lifecycle{log: log, fail: func(err error) { t.Error(err) }}
	life.serve("webhooks", listener, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic("at " + r.URL.Path) }), serving{10, time.Minute, 0, devDrain})
	if response, err := http.Get("http://" + listener.Addr().String() + "/place"); err == nil {
		response.Body.Close()
		t.Errorf("answered %d", response.StatusCode)
	}
	if err := life.end(); err != nil {
		t.Error(err)
	}
	flush()
	text, _, _ := strings.Cut(written.String(), "goroutine ")
	if !strings.Contains(text, `"level":"ERROR"`) || !strings.Contains(text, `"error":"at /place`) || strings.Contains(text, "127.0.0.1") {
		t.Errorf("the log has %s", written)
	}
	if !strings.Contains(written.String(), "serve_test.go") {
		t.Errorf("no place in %s", written)
	}
}
