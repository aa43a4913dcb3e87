package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// echoed sends and gets back what a server sends back, at a distance, in pieces.
func echoed(t *testing.T, delay time.Duration, data []byte, pieces int) time.Duration {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn)
	}()
	d, err := newDistance(server.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	conn, err := net.Dial("tcp", d.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	go func() {
		size := len(data) / pieces
		for i := range pieces {
			conn.Write(data[i*size : (i+1)*size])
		}
		conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back as %d others", len(data), len(got))
	}
	return time.Since(start)
}

func TestDistanceDelaysEachWay(t *testing.T) {
	const delay = 20 * time.Millisecond
	if took := echoed(t, delay, []byte("x"), 1); took < 2*delay {
		t.Errorf("a round trip took %s, want %s or more", took, 2*delay)
	}
}

// Delays of what is under way together do not add up.
func TestDistanceDoesNotLimit(t *testing.T) {
	const delay, pieces = 50 * time.Millisecond, 256
	data := make([]byte, pieces*(64<<10))
	rand.Read(data)
	if took := echoed(t, delay, data, pieces); took > pieces*delay/4 {
		t.Errorf("%d pieces took %s at %s each way", pieces, took, delay)
	}
}
