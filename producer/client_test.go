package producer

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mailtally/mailtally/tracking/provider"
)

// A client that hangs up in mid-body is counted, and no memory stays reserved for it.
func TestClientHangsUpInMidBody(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d\r\n", len(clicked)),
		fmt.Sprintf("Content-Length: %d\r\n", provider.MaxValue),
		"Transfer-Encoding: chunked\r\n",
	} {
		conn := g.dial()
		fmt.Fprint(conn, rawRequest(sentWebhook{}, framing), "64\r\n", string(clicked[:100]))
		wait(t, "started", g.started, 1)
		conn.Close()
		wait(t, "handled", g.handled, 1)
	}
	g.wantCounts(map[result]int{incomplete: 3})
	g.wantRecords(0, 0)
}

// If a client hangs up while Kafka writes, its webhook is written all the same.
func TestClientHangsUpAfterSending(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: deadline})
	kafka := holdProduce(t, g.broker)
	conn := g.dial()
	fmt.Fprint(conn, rawRequest(sentWebhook{}, fmt.Sprintf("Content-Length: %d\r\n", len(clicked))), string(clicked))
	wait(t, "a produce request", kafka.arrived, 1)
	conn.Close()
	g.wantCounts(nil)
	kafka.release()
	wait(t, "handled", g.handled, 1)
	g.wantCounts(map[result]int{accepted: 1})
	g.wantRecords(1, 0)
}

// A body that does not arrive within the server's timeout is the client's fault.
func TestSlowBody(t *testing.T) {
	g := newGateway(t, gatewayOptions{readTimeout: 200 * time.Millisecond})
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n", len(clicked)), "Transfer-Encoding: chunked\r\n"} {
		conn := g.dial()
		fmt.Fprint(conn, rawRequest(sentWebhook{}, framing), "64\r\n", string(clicked[:100]))
		if status := readStatus(conn); status != http.StatusRequestTimeout && status != 0 {
			t.Errorf("answered %d", status)
		}
		wait(t, "handled", g.handled, 1)
		if status := readStatus(conn); status != 0 {
			t.Errorf("the connection serves on, with %d", status)
		}
	}
	g.wantCounts(map[result]int{incomplete: 2})
	g.wantRecords(0, 0)
}

// A body may arrive byte by byte.
func TestBodyInPieces(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	conn := g.dial()
	fmt.Fprint(conn, rawRequest(sentWebhook{}, "Transfer-Encoding: chunked\r\n"))
	for _, b := range clicked {
		fmt.Fprintf(conn, "1\r\n%c\r\n", b)
	}
	fmt.Fprint(conn, "0\r\n\r\n")
	if status := readStatus(conn); status != http.StatusOK {
		t.Errorf("answered %d", status)
	}
	if records := g.records(topic); len(records) != 1 || string(records[0].Value) != string(clicked) {
		t.Errorf("%d records", len(records))
	}
}
