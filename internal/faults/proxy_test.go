package faults

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// What is sent comes back unchanged, and no sooner than the distance allows.
func TestDistance(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	}()
	const delay = 20 * time.Millisecond
	p, err := Distance(echo.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent, got := make([]byte, 1<<20), make([]byte, 1<<20)
	rand.Read(sent)
	start := time.Now()
	go conn.Write(sent)
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(sent, got) {
		t.Errorf("something else came back (%v)", err)
	}
	if took := time.Since(start); took < 2*delay {
		t.Errorf("a round trip took %s, want %s or more", took, 2*delay)
	}
}

// When one side closes, so does the other, after all that was sent.
func TestDistanceHandsOnTheEnd(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := Distance(server.Addr().String(), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	near, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near.Write([]byte("goodbye"))
	near.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != "goodbye" {
		t.Errorf("got %q (%v)", got, err)
	}
}
