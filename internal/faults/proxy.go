// Package faults stands between two parts and makes the connection fail in the
// ways that networks and servers do. For tests.
package faults

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections to a server, until told to fail.
type Proxy struct {
	listener net.Listener
	target   string
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target, connections: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Away(true)
		p.running.Wait()
	})
	return p
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

// OnRequest has f look at what clients send, chunk by chunk as it is read. Where
// f returns false the chunk is not forwarded and the connection is cut.
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
	defer to.Close()
	defer from.Close()
	chunk := make([]byte, 64<<10)
	for {
		n, err := from.Read(chunk)
		if n > 0 {
			p.mu.Lock()
			look := hook()
			p.mu.Unlock()
			if look != nil && !look(chunk[:n]) {
				return
			}
			if _, err := to.Write(chunk[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
