package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailtally/mailtally/internal/localkafka"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	var broken error
	handler := adminHandler(t.Context(), newRegistry(),
		check{"one", func(context.Context) error { return broken }},
		check{"other", func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				return errors.New("nothing bounds the check")
			}
			return nil
		}})
	answer := func(path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, test := range []struct {
		broken error
		path   string
		status int
		text   string
	}{
		{nil, "/readyz", 200, "one: ok\nother: ok\n"},
		{nil, "/healthz", 200, "ok\n"},
		{errors.New("gone"), "/readyz", 503, "one: gone\nother: ok\n"},
		{errors.New("gone"), "/healthz", 200, "ok\n"},
		{nil, "/webhooks/resend", 404, "404 page not found\n"},
		{nil, "/nothing", 404, "404 page not found\n"},
	} {
		broken = test.broken
		if status, text := answer(test.path); status != test.status || text != test.text {
			t.Errorf("%s while broken is %v: %d %q, want %d %q", test.path, test.broken, status, text, test.status, test.text)
		}
	}
	if status, text := answer("/metrics"); status != 200 || !strings.Contains(text, "go_goroutines") {
		t.Errorf("/metrics: %d %q", status, text)
	}
}

// A check that hangs is reported in time, even if it ignores its context.
func TestAdminHandler_PartHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		defer close(hangs)
		handler := adminHandler(t.Context(), newRegistry(),
			check{"one", func(context.Context) error { return nil }},
			check{"other", func(context.Context) error { <-hangs; return nil }})
		start := time.Now()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if took := time.Since(start); w.Code != 503 || w.Body.String() != "one: ok\nother: no answer within 2s\n" || took != readyTimeout {
			t.Errorf("%d %q after %v", w.Code, w.Body.String(), took)
		}
	})
}

// The public port serves webhooks and nothing else; the admin port serves none.
func TestPorts(t *testing.T) {
	t.Parallel()
	p := start(t, migrated(t), "producer")
	public, admin := p.addresses()
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/"} {
		if status, _ := get(t, "http://"+public+path); status != http.StatusNotFound {
			t.Errorf("%s on the public port: %d, want 404", path, status)
		}
	}
	if status := post(t, admin, testSecret, "msg_1", []byte("{}")); status != http.StatusNotFound {
		t.Errorf("a webhook on the admin port: %d, want 404", status)
	}
	if status, _ := get(t, "http://"+admin+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
}

// While Kafka or the database is away, /readyz fails and names it; when it is back,
// /readyz passes again. /healthz passes throughout.
func TestReady(t *testing.T) {
	t.Parallel()
	environ, database := behindProxy(t, migrated(t))

	// A broker of its own, which drops all connections while it is away.
	broker, err := localkafka.Start(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	var away atomic.Bool
	broker.Cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.Cluster.KeepControl()
		return nil, errors.New("away"), away.Load()
	})
	environ["KAFKA_BROKERS"] = broker.Addr()
	if start(t, environ, "migrate").wait() != 0 {
		t.Fatal("migrate failed")
	}
	producer, consumer := start(t, environ, "producer"), start(t, environ, "consumer")
	_, gateway := producer.addresses()
	_, member := consumer.addresses()
	want := func(when string, parts map[string]string) {
		t.Helper()
		for admin, want := range parts {
			eventually(t, func() error {
				status, text := get(t, "http://"+admin+"/readyz")
				wantStatus := http.StatusOK
				if want != "ok" {
					wantStatus = http.StatusServiceUnavailable
				}
				if status != wantStatus || want != "ok" && (!strings.Contains(text, want+": ") || strings.Contains(text, want+": ok")) {
					return fmt.Errorf("%s, /readyz says %d %q, want %d and %s", when, status, text, wantStatus, want)
				}
				return nil
			})
			if status, _ := get(t, "http://"+admin+"/healthz"); status != http.StatusOK {
				t.Errorf("%s, /healthz says %d", when, status)
			}
		}
	}
	want("at the start", map[string]string{gateway: "ok", member: "ok"})
	database.Away(true)
	want("without the database", map[string]string{gateway: "ok", member: "database"})
	database.Away(false)
	want("with the database again", map[string]string{gateway: "ok", member: "ok"})
	away.Store(true)
	want("without Kafka", map[string]string{gateway: "kafka", member: "kafka"})
	away.Store(false)
	want("with Kafka again", map[string]string{gateway: "ok", member: "ok"})
	if a, b := producer.stop(), consumer.stop(); a != 0 || b != 0 {
		t.Errorf("exit codes %d and %d", a, b)
	}
}
