package main

import (
	"bytes"
	"container/list"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// How many connections a port has open at the same moment, where the process may open
	// many files. An idle one costs about 15 KB.
	maxWebhookConnections = 4096
	maxAdminConnections   = 64

	// manyFiles is more than matters.
	manyFiles = 1 << 20

	// maxHeads bounds what the headers of requests that are not whole yet cost, in
	// bytes: 8 KiB for each connection, of which a usual one takes 5, or 60 headers of
	// as many lines as fit.
	maxHeads = 32 << 20

	// perHeaderLine is what net/http needs for a header beside its text, in bytes.
	perHeaderLine = 128

	// patienceWithClients is how long a connection is left alone that is waited for,
	// though others need its place: what it has sent may not be read yet.
	patienceWithClients = 100 * time.Millisecond
)

// connections bounds what the clients of a port can take from it before they have sent a
// whole request: connections, and the memory of headers. If there is no place for another
// connection, the one goes that the server has waited for longest, be it idle, in
// mid-header or in mid-body. If the memory is used up, the one with the largest header
// goes. One whose request is being answered is never closed for another.
//
// It is a server's listener; install makes it hear of the rest.
type connections struct {
	net.Listener
	limit int   // of connections
	room  int64 // for headers, in bytes
	log   *slog.Logger

	mu      sync.Mutex
	open    int
	heads   int64
	waiting list.List // of *connection, the one waited for longest in front

	changed chan struct{} // holds one if a place may have become free
	closed  chan struct{}
	closing sync.Once
}

// connection is one of a server's connections. The fields need the lock.
type connection struct {
	*net.TCPConn
	of     *connections
	inHead atomic.Bool   // what is read belongs to a header
	place  *list.Element // in waiting; nil while a request is answered, and at the end
	since  time.Time     // when it began to be waited for, or last got on
	head   int64         // its part of heads
	gone   bool
}

// webhookConnections is the limit of the public port: half of the files that the process
// may open. The admin port has up to a quarter, so neither port takes the other's, nor
// those of Kafka and PostgreSQL.
func webhookConnections() int { return min(maxWebhookConnections, maxFiles()/2) }

func adminConnections() int { return min(maxAdminConnections, maxFiles()/4) }

func newConnections(listener net.Listener, limit int, log *slog.Logger) *connections {
	return &connections{
		Listener: listener, limit: limit, room: maxHeads, log: log,
		changed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

// install makes server tell c what becomes of its connections.
func (c *connections) install(server *http.Server) {
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		switch x := conn.(*connection); state {
		case http.StateActive: // the header is whole
			x.inHead.Store(false)
			c.gotOn(x)
		case http.StateIdle:
			x.inHead.Store(true)
			c.await(x)
		}
	}
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, conn)
	}
	handler := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := r.Context().Value(connectionKey{}).(*connection)
		if r.Body == http.NoBody {
			c.whole(x)
		} else {
			r.Body = &awaitedBody{r.Body, x}
		}
		handler.ServeHTTP(w, r)
	})
}

// awaitedBody says when a request's body is whole.
type awaitedBody struct {
	io.ReadCloser
	conn *connection
}

func (b *awaitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.conn.of.whole(b.conn)
	}
	return n, err
}

// Accept returns the next connection once there is a place for it.
func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	x := &connection{TCPConn: conn.(*net.TCPConn), of: c}
	x.inHead.Store(true)
	c.mu.Lock()
	c.open++
	c.mu.Unlock()
	c.await(x)
	for {
		wait, ok := c.makePlace(x)
		if ok {
			return x, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.changed:
		case <-timer.C:
		case <-c.closed:
			x.Close()
			return nil, net.ErrClosed
		}
		timer.Stop()
	}
}

// Close stops Accept.
func (c *connections) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

// makePlace closes connections until there are no more than the limit, and never x, the
// one that came last. If it must not close any yet, it returns how long to wait.
func (c *connections) makePlace(x *connection) (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > c.limit {
		e := c.waiting.Front()
		if e.Value == x {
			e = e.Next()
		}
		if e == nil { // all others are being answered: until one of them has changed
			return time.Minute, false
		}
		oldest := e.Value.(*connection)
		if wait := patienceWithClients - time.Since(oldest.since); wait > 0 {
			return wait, false
		}
		c.log.Warn("connection closed before it had sent a whole request: another needed its place", "reason", "connections")
		c.remove(oldest)
	}
	return 0, true
}

// await says that a connection's next request is waited for.
func (c *connections) await(x *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.gone {
		return
	}
	c.forget(x)
	x.place, x.since = c.waiting.PushBack(x), time.Now()
	c.notify()
}

// gotOn says that a connection that is waited for has sent a part of its request that
// counts: it is no longer among the oldest.
func (c *connections) gotOn(x *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.toBack(x)
}

func (c *connections) toBack(x *connection) {
	if x.place != nil {
		c.waiting.MoveToBack(x.place)
		x.since = time.Now()
	}
}

// whole says that a connection's request is.
func (c *connections) whole(x *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(x)
}

func (c *connections) forget(x *connection) {
	if x.place != nil {
		c.waiting.Remove(x.place)
		x.place = nil
	}
	c.heads -= x.head
	x.head = 0
}

// remove closes a connection, if that has not been done.
func (c *connections) remove(x *connection) {
	if x.gone {
		return
	}
	c.forget(x)
	c.open--
	x.gone = true
	x.TCPConn.Close()
	c.notify()
}

func (c *connections) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Read reads, and counts what is a header's.
func (x *connection) Read(p []byte) (int, error) {
	n, err := x.TCPConn.Read(p)
	if n > 0 && x.inHead.Load() {
		x.of.count(x, int64(n+perHeaderLine*bytes.Count(p[:n], []byte("\n"))))
	}
	return n, err
}

// count adds to the cost of a connection's header. If all of them have become too much,
// it closes the one with the largest. Usual ones fit on every connection that there may
// be, so those are never the largest.
func (c *connections) count(x *connection, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.place == nil {
		return
	}
	if x.head == 0 {
		c.toBack(x)
	}
	x.head += cost
	c.heads += cost
	for c.heads > c.room {
		largest := x
		for e := c.waiting.Front(); e != nil; e = e.Next() {
			if other := e.Value.(*connection); other.head > largest.head {
				largest = other
			}
		}
		c.log.Warn("connection closed before it had sent a whole request: the memory for headers is used up", "reason", "memory")
		c.remove(largest)
	}
}

func (x *connection) Close() error {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.of.remove(x)
	return nil
}
