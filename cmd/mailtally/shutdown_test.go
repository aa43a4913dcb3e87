package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// After SIGTERM a producer is no longer ready, but accepts webhooks until load balancers
// have noticed, on new connections and on those that it has; a second signal ends that.
func TestShutdown_ProducerGoesOn(t *testing.T) {
	t.Parallel()
	p, process := spawn(t, with(migrated(t), "SHUTDOWN_DELAY", "1h"), "producer")
	public, admin := p.addresses()
	kept := dial(t, public)
	send := func(id string) *http.Response {
		var head strings.Builder
		if err := signed(t, testSecret, id, []byte("{}")).Write(&head); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(kept, "POST /webhooks/resend HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n%s\r\n{}", head.String())
		return readAnswer(t, id, kept)
	}
	if a := send("before"); a.StatusCode != http.StatusOK || a.Close {
		t.Errorf("before: %d, close %t", a.StatusCode, a.Close)
	}
	if status, text := get(t, "http://"+admin+"/readyz"); status != http.StatusOK {
		t.Errorf("before: %d %s", status, text)
	}

	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.line(p.stderr, "requests are still accepted")
	if status, text := get(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable || text != "stopping\n" {
		t.Errorf("/readyz: %d %q", status, text)
	}
	if status, _ := get(t, "http://"+admin+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if status := post(t, public, testSecret, "new connection", []byte("{}")); status != http.StatusOK {
		t.Errorf("on a new connection: %d", status)
	}
	if a := send("after"); a.StatusCode != http.StatusOK || !a.Close {
		t.Errorf("on the connection that it had: %d, close %t", a.StatusCode, a.Close)
	}
	wantClosed(t, "the connection that it had", kept)

	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

// The wait ends by itself.
func TestShutdown_DelayEnds(t *testing.T) {
	t.Parallel()
	p := start(t, with(migrated(t), "SHUTDOWN_DELAY", "100ms"), "producer")
	p.addresses()
	p.endsWell()
	p.line(p.stderr, `"duration":"100ms"`)
	p.line(p.stderr, "no more requests are accepted")
}

// A consumer that finishes what is in hand is not ready any more either.
func TestShutdown_ConsumerIsNotReady(t *testing.T) {
	t.Parallel()
	environ, database := behindProxy(t, migrated(t))
	consumer := start(t, environ, "consumer")
	_, admin := consumer.addresses()
	consumer.line(consumer.stderr, `"partitions assigned"`)
	producer := start(t, environ, "producer")
	public, _ := producer.addresses()
	held, release := make(chan struct{}, 1), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	database.OnRequest(func(chunk []byte) bool {
		if bytes.Contains(chunk, []byte("pg_current_xact_id")) { // a batch
			select {
			case held <- struct{}{}:
			default:
			}
			<-release
		}
		return true
	})
	body := fmt.Appendf(nil, `{"type":"email.opened","created_at":"2026-11-25T20:00:00Z","data":{"email_id":"56761188-7520-42d8-8898-ff6fc54ce618"}}`)
	if status := post(t, public, testSecret, "1", body); status != http.StatusOK {
		t.Fatalf("answered %d", status)
	}
	<-held
	consumer.interrupt()
	eventually(t, func() error {
		status, text := get(t, "http://"+admin+"/readyz")
		return same("/readyz", fmt.Sprint(status, text), "503stopping\n")
	})
	letGo()
	if code := consumer.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, consumer.stderr)
	}
}

// A process that is stopping asks none of its parts.
func TestAdminHandler_Stopping(t *testing.T) {
	t.Parallel()
	running, stop := context.WithCancel(t.Context())
	defer stop()
	handler := adminHandler(running, newRegistry(), check{"one", func(context.Context) error { return nil }})
	for _, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
		stop()
	}
}
