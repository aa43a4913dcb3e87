package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// limitedServer is a server with bounded connections.
type limitedServer struct {
	*connections
	t      *testing.T
	addr   string
	logged *output
}

func newLimitedServer(t *testing.T, limit int, handler http.HandlerFunc) *limitedServer {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	logged := newOutput()
	c := newConnections(server.Listener, limit, slog.New(slog.NewTextHandler(logged, nil)))
	c.install(server.Config)
	go server.Config.Serve(c)
	t.Cleanup(func() { server.Config.Close() })
	return &limitedServer{c, t, server.Listener.Addr().String(), logged}
}

// send opens a connection and sends text.
func (l *limitedServer) send(text string) net.Conn {
	l.t.Helper()
	conn := dial(l.t, l.addr)
	fmt.Fprint(conn, text)
	return conn
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// settled waits until n connections are waited for, whose headers cost as much.
func (l *limitedServer) settled(n int, heads int64) {
	l.t.Helper()
	eventually(l.t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return errors.Join(same("connections waited for", l.waiting.Len(), n), same("cost of headers", l.heads, heads))
	})
}

// wantAnswer reads an answer, which has to be 200.
func wantAnswer(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	if status := readAnswer(t, what, conn).StatusCode; status != http.StatusOK {
		t.Errorf("%s: answered %d", what, status)
	}
}

// readAnswer reads an answer to its end.
func readAnswer(t *testing.T, what string, conn net.Conn) *http.Response {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return new(http.Response)
	}
	return answer
}

func wantClosed(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	if netErr, isNet := errors.AsType[net.Error](err); isNet && netErr.Timeout() {
		t.Errorf("%s is not closed", what)
	}
}

const (
	wholeRequest = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	halfHeader   = "GET / HTTP/1.1\r\nHost: a\r\n"
	halfBody     = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"
)

func costOf(text string) int64 { return int64(len(text) + perHeaderLine*strings.Count(text, "\n")) }

// Whoever needs a place gets that of the connection that has been waited for longest,
// whether it is new, kept alive, in mid-header or in mid-body.
func TestConnections_TheLongestWaitedForGoes(t *testing.T) {
	t.Parallel()
	l := newLimitedServer(t, 4, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	silent := l.send("")
	l.settled(1, 0)
	inBody := l.send(halfBody)
	l.settled(2, costOf(halfBody))
	inHeader := l.send(halfHeader)
	l.settled(3, costOf(halfBody)+costOf(halfHeader))
	kept := l.send(wholeRequest)
	wantAnswer(t, "the first", kept)
	l.settled(4, costOf(halfBody)+costOf(halfHeader))

	for _, oldest := range []struct {
		name string
		conn net.Conn
		left int64 // what the others' headers cost
	}{{"silent", silent, costOf(halfBody) + costOf(halfHeader)}, {"in mid-body", inBody, costOf(halfHeader)}, {"in mid-header", inHeader, 0}, {"kept alive", kept, 0}} {
		newest := l.send(wholeRequest)
		wantAnswer(t, "beside the one that is "+oldest.name, newest)
		wantClosed(t, "the one that is "+oldest.name, oldest.conn)
		l.settled(4, oldest.left)
	}
}

// What a client sends that counts renews its patience.
func TestConnections_GettingOnCounts(t *testing.T) {
	t.Parallel()
	l := newLimitedServer(t, 3, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	slow := l.send("")
	l.settled(1, 0)
	silent := []net.Conn{l.send("")}
	l.settled(2, 0)
	fmt.Fprint(slow, halfBody[:20])
	l.settled(2, costOf(halfBody[:20]))
	silent = append(silent, l.send(""))
	l.settled(3, costOf(halfBody[:20]))
	fmt.Fprint(slow, halfBody[20:])
	l.settled(3, costOf(halfBody))
	for i := range silent {
		wantAnswer(t, "another", l.send(wholeRequest))
		wantClosed(t, fmt.Sprintf("silent one %d", i), silent[i])
	}
	fmt.Fprint(slow, "67890")
	wantAnswer(t, "the slow one", slow)
}

// A request that is being answered is not cut off for another: that one waits.
func TestConnections_AnAnswerIsNotCutOff(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	l := newLimitedServer(t, 2, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		<-release
	})
	busy := []net.Conn{l.send(wholeRequest), l.send(halfBody + "67890")}
	<-begun
	<-begun
	next := l.send(wholeRequest)
	l.settled(1, 0) // it is accepted, and waits for its place
	release <- struct{}{}
	<-begun // now it is served
	release <- struct{}{}
	release <- struct{}{}
	for _, conn := range append(busy, next) {
		wantAnswer(t, "a busy one", conn)
	}
}

// The memory of unfinished headers is bounded: the largest goes, and those of usual size
// are read to their end.
func TestConnections_HeadersAreBounded(t *testing.T) {
	t.Parallel()
	l := newLimitedServer(t, 100, func(http.ResponseWriter, *http.Request) {})
	large := halfHeader + strings.Repeat("a:b\r\n", 700) // one read of net/http's buffer
	l.room = 3*costOf(large) + costOf(halfHeader)
	usual := l.send(halfHeader)
	l.settled(1, costOf(halfHeader))
	var strangers []net.Conn
	for i := range 10 {
		strangers = append(strangers, l.send(large))
		l.settled(1+min(i+1, 3), costOf(halfHeader)+int64(min(i+1, 3))*costOf(large))
		eventually(t, func() error { return same("lines", strings.Count(l.logged.String(), "reason=memory"), max(i-2, 0)) })
	}
	wantAnswer(t, "a whole request", l.send(wholeRequest))
	fmt.Fprint(usual, "\r\n")
	wantAnswer(t, "the usual one", usual)
	for _, stranger := range strangers {
		fmt.Fprint(stranger, "\r\n")
	}
	answered := 0
	for _, stranger := range strangers {
		if answer, err := http.ReadResponse(bufio.NewReader(stranger), nil); err == nil {
			answer.Body.Close()
			answered++
		}
	}
	if answered > 3 {
		t.Errorf("%d large headers were kept, of 3 that fit", answered)
	}
}

// Closing the listener ends an Accept that waits for a place.
func TestConnections_CloseWhileOneWaits(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	l := newLimitedServer(t, 1, func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-release
	})
	busy := l.send(wholeRequest)
	<-begun
	waits := l.send(wholeRequest)
	l.settled(1, 0)
	l.Close()
	wantClosed(t, "the one that waits", waits)
	close(release)
	wantAnswer(t, "the busy one", busy)
}

// With few files, connections that send nothing, or no end, keep out neither webhooks nor
// those who ask whether the process is ready.
func TestConnections_FewFiles(t *testing.T) {
	t.Parallel()
	var head strings.Builder
	if err := signed(t, testSecret, "half", []byte("{}")).Write(&head); err != nil {
		t.Fatal(err)
	}
	p, _ := spawnUnder(t, []string{"sh", "-c", `ulimit -n 256 && exec "$0" "$@"`}, migrated(t), "producer")
	public, admin := p.addresses()
	for name, text := range map[string]string{
		"idle":          "",
		"in mid-header": halfHeader + strings.Repeat("a:b\r\n", 600),
		"in mid-body":   "POST /webhooks/resend HTTP/1.1\r\nHost: a\r\nContent-Length: 262144\r\n" + head.String() + "\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			for range 300 {
				for _, addr := range []string{public, admin} {
					fmt.Fprint(dial(t, addr), text)
				}
			}
			for i := range 20 {
				if status := post(t, public, testSecret, fmt.Sprintf("%s %d", name, i), []byte("{}")); status != http.StatusOK {
					t.Errorf("a webhook is answered %d", status)
				}
			}
			if status, text := get(t, "http://"+admin+"/readyz"); status != http.StatusOK {
				t.Errorf("/readyz: %d %s", status, text)
			}
		})
	}
	p.endsWell()
}
