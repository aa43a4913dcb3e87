package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// distance is a stretch of network: a TCP proxy on loopback that hands on what
// comes in so much later, in both directions. It delays and does not limit: any
// number of bytes are under way at once.
type distance struct {
	listener net.Listener
	target   string
	delay    time.Duration
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// newDistance makes one to target.
func newDistance(target string, delay time.Duration) (*distance, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for what goes to %s: %w", target, err)
	}
	d := &distance{listener: listener, target: target, delay: delay}
	d.running.Go(d.accept)
	return d, nil
}

// to gives a database's URL by way of d.
func (d *distance) to(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", err
	}
	u.Host = d.listener.Addr().String()
	return u.String(), nil
}

// close cuts all connections, and returns when nothing of d is left.
func (d *distance) close() {
	d.listener.Close()
	d.mu.Lock()
	d.closed = true
	for _, conn := range d.conns {
		conn.Close()
	}
	d.mu.Unlock()
	d.running.Wait()
}

func (d *distance) accept() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", d.target)
		if err != nil {
			near.Close()
			continue
		}
		if !d.hold(near, far) {
			return
		}
		d.running.Go(func() { d.carry(far, near) })
		d.running.Go(func() { d.carry(near, far) })
	}
}

// hold has close end the connections too.
func (d *distance) hold(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, conns...)
	if d.closed {
		for _, conn := range conns {
			conn.Close()
		}
	}
	return !d.closed
}

// chunk is what was read at once, and when it has come the whole way.
type chunk struct {
	data []byte
	due  time.Time
}

// carry hands on what comes from one end to the other, until the one is closed
// or the other does not take it.
func (d *distance) carry(to, from net.Conn) {
	// Many more chunks than are ever under way.
	under := make(chan chunk, 4096)
	d.running.Go(func() {
		defer to.(*net.TCPConn).CloseWrite()
		for c := range under {
			if wait := time.Until(c.due); wait > 0 {
				time.Sleep(wait)
			}
			if _, err := to.Write(c.data); err != nil {
				from.Close() // and so under
			}
		}
	})
	defer close(under)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			under <- chunk{bytes.Clone(buf[:n]), time.Now().Add(d.delay)}
		}
		if err != nil {
			if err != io.EOF {
				to.Close()
			}
			return
		}
	}
}
