// Package faults stands between two parts and makes the connection fail in the
// ways that networks and servers do, or take its time. For tests and benchmarks.
package faults

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections to a server, until told to fail.
type Proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration
	running  sync.WaitGroup

	mu          sync.Mutex
	connections map[net.Conn]bool
	away        bool
	refused     int
	onRequest   func([]byte) bool
	onResponse  func([]byte) bool
}

// NewProxy listens on 127.0.0.1 for connections to target, until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := Distance(target, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Distance listens on 127.0.0.1 for connections to target, until Close, and delays what
// is sent, in both directions. It adds latency and does not limit the throughput.
func Distance(target string, delay time.Duration) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, delay: delay, connections: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	return p, nil
}

// Close cuts all connections, and returns when nothing of p is left.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Away(true)
	p.running.Wait()
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Away cuts all connections and, until it is called with false, every new one.
func (p *Proxy) Away(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
	if away {
		for c := range p.connections {
			c.Close()
		}
	}
}

// Refused is how many connections were refused while the target was away.
func (p *Proxy) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// OnRequest calls f with what clients send, chunk by chunk as it is read. If f returns
// false, the chunk is not forwarded and the connection is cut.
func (p *Proxy) OnRequest(f func([]byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onRequest = f
}

// OnResponse is OnRequest for what the server sends.
func (p *Proxy) OnResponse(f func([]byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onResponse = f
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		if !p.add(client, server) {
			continue
		}
		p.running.Go(func() { p.forward(server, client, func() func([]byte) bool { return p.onRequest }) })
		p.running.Go(func() { p.forward(client, server, func() func([]byte) bool { return p.onResponse }) })
	}
}

// add keeps the connections to cut them later, or cuts them now.
func (p *Proxy) add(pair ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		p.refused++
	}
	for _, c := range pair {
		if p.away {
			c.Close()
			continue
		}
		p.connections[c] = true
	}
	return !p.away
}

func (p *Proxy) forward(to, from net.Conn, hook func() func([]byte) bool) {
	write := func(chunk []byte) bool { _, err := to.Write(chunk); return err == nil }
	end := func() {
		to.Close()
		from.Close()
	}
	if p.delay > 0 {
		write, end = p.later(write, end)
	}
	defer end()
	chunk := make([]byte, 64<<10)
	for {
		n, err := from.Read(chunk)
		if n > 0 {
			p.mu.Lock()
			look := hook()
			p.mu.Unlock()
			if look != nil && !look(chunk[:n]) || !write(chunk[:n]) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// later gives versions of write and end that take effect after the delay, in order.
func (p *Proxy) later(write func([]byte) bool, end func()) (func([]byte) bool, func()) {
	type sent struct {
		chunk []byte
		due   time.Time
	}
	under := make(chan sent, 4096) // far more than are ever in flight
	p.running.Go(func() {
		defer end()
		for s := range under {
			time.Sleep(time.Until(s.due))
			if !write(s.chunk) {
				end() // so that nothing more is read
			}
		}
	})
	queue := func(chunk []byte) bool {
		under <- sent{bytes.Clone(chunk), time.Now().Add(p.delay)}
		return true
	}
	return queue, func() { close(under) }
}
