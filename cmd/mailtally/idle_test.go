package main

import (
	"fmt"
	"net/http"
	"testing"
)

// HTTP_IDLE_TIMEOUT is how long a connection is kept for the next request.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	public, admin := start(t, with(migrated(t), "HTTP_IDLE_TIMEOUT", "50ms"), "producer").addresses()
	conn := dial(t, public)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if status := readAnswer(t, "the first request", conn).StatusCode; status != http.StatusNotFound {
		t.Errorf("answered %d", status)
	}
	wantClosed(t, "an idle connection", conn)
	conn = dial(t, admin)
	for range 2 {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		wantAnswer(t, "the admin port", conn)
	}
}
