package producer

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// halfSend opens a connection, announces a body as framing says, and sends part of it.
func (g *gateway) halfSend(framing string, part []byte) net.Conn {
	g.t.Helper()
	conn := g.dial()
	if _, err := conn.Write(append([]byte(rawRequest(sentWebhook{signature: "v1,forged"}, framing)), part...)); err != nil {
		g.t.Error(err)
	}
	return conn
}

// Strangers who send a part of a body and wait keep out no webhook, and what becomes of
// them is not counted as Kafka's fault.
func TestHalfSentBodiesKeepNobodyOut(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	length := fmt.Sprintf("Content-Length: %d\r\n", provider.MaxValue)
	const large, small = 150, 900
	var senders sync.WaitGroup
	for i := range large + small {
		part := bytes.Repeat([]byte("x"), 131_082) // reserves the next size, twice as much
		if i >= large {
			part = part[:3_000]
		}
		senders.Go(func() { g.halfSend(length, part) })
	}
	senders.Wait()
	wait(t, "started", g.started, large+small)
	for i := range 100 {
		g.want(http.StatusOK, sentWebhook{id: strconv.Itoa(i)})
	}
	g.want(http.StatusOK, sentWebhook{body: bodyOfSize(provider.MaxValue)})
	counts := g.counts("resend")
	if counts[incomplete] == 0 {
		t.Error("nobody was cut off: there was room for all")
	}
	delete(counts, incomplete) // some of them may be counted only now
	for r, n := range counts {
		if want := map[result]int{accepted: 101}[r]; n != want {
			t.Errorf("%s counted %d times, want %d", r, n, want)
		}
	}
}

// Only as many are cut off as needed, those that have waited longest first, and each is
// told. A slow sender that began later is read to its end.
func TestTheOldestHalfSentBodyIsCutOff(t *testing.T) {
	announced := fmt.Sprintf("Content-Length: %d\r\n", len(clicked))
	usual := int64(heldPerRecord + len(clicked) + 1)
	for framing, each := range map[string]int64{announced: usual, "Transfer-Encoding: chunked\r\n": heldPerRecord + firstRead} {
		t.Run(framing, func(t *testing.T) {
			g := newGateway(t, gatewayOptions{})
			var strangers []net.Conn
			reserved := int64(0)
			begin := func(n int) {
				for range n {
					strangers = append(strangers, g.halfSend(framing, nil))
					reserved += each
					g.waitReserved(reserved) // so that the next one is newer
				}
			}
			begin(3)
			slow := g.dial()
			fmt.Fprint(slow, rawRequest(sentWebhook{}, announced), string(clicked[:100]))
			reserved += usual
			g.waitReserved(reserved)
			begin(2)
			g.producer.arriving.mu.Lock()
			g.producer.arriving.limit = reserved
			g.producer.arriving.mu.Unlock()

			g.halfSend(framing, nil)
			if status := readStatus(strangers[0]); status != http.StatusRequestTimeout {
				t.Errorf("the oldest was answered %d", status)
			}
			g.waitReserved(reserved) // its room is the new one's
			g.want(http.StatusOK, sentWebhook{id: "other"})
			if status := readStatus(strangers[1]); status != http.StatusRequestTimeout {
				t.Errorf("the next was answered %d", status)
			}
			fmt.Fprint(slow, string(clicked[100:]))
			if status := readStatus(slow); status != http.StatusOK {
				t.Errorf("the slow one was answered %d", status)
			}
			g.wantCounts(map[result]int{accepted: 2, incomplete: 2})
		})
	}
}

// waitReserved waits until n bytes are reserved for bodies that arrive.
func (g *gateway) waitReserved(n int64) {
	g.t.Helper()
	timeout := time.Now().Add(deadline)
	for g.producer.arriving.reserved() != n {
		if time.Now().After(timeout) {
			g.t.Fatalf("%d bytes are reserved, want %d", g.producer.arriving.reserved(), n)
		}
		runtime.Gosched()
	}
}
