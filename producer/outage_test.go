package producer

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/mailtally/mailtally/tracking/provider"
)

// Kafka was never there: the answer comes in time all the same.
func TestKafkaNeverThere(t *testing.T) {
	for name, answers := range map[string]bool{"refuses connections": false, "accepts and never answers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if answers {
				swallow(t, listener)
			} else {
				listener.Close()
			}
			const publishTimeout = 300 * time.Millisecond
			g := newGateway(t, gatewayOptions{seed: listener.Addr().String(), publishTimeout: publishTimeout})
			start := time.Now()
			var senders sync.WaitGroup
			for i := range 50 {
				senders.Go(func() { g.want(http.StatusServiceUnavailable, sentWebhook{id: strconv.Itoa(i)}) })
			}
			senders.Wait()
			if took := time.Since(start); took < publishTimeout {
				t.Errorf("answered after %v, before Kafka had its %v", took, publishTimeout)
			}
			g.want(http.StatusOK, sentWebhook{body: contactCreated}) // this one needs no Kafka
			g.wantCounts(map[result]int{unavailable: 50, ignored: 1})
			if n := g.published(); n != 0 {
				t.Errorf("%d publications observed", n)
			}
		})
	}
}

// Kafka goes away and comes back, with its data and without.
func TestKafkaComesBack(t *testing.T) {
	for name, keep := range map[string]bool{"with its data": true, "empty": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := newBroker(t, dir)
			createTopics(t, first.Addr())
			g := newGateway(t, gatewayOptions{seed: first.Addr(), publishTimeout: 300 * time.Millisecond})
			g.broker = first
			g.wantRecovery() // the first connection may take a slow machine longer than that
			_, text, err := net.SplitHostPort(first.Addr())
			if err != nil {
				t.Fatal(err)
			}
			port, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}

			first.Close()
			for range 3 {
				g.want(http.StatusServiceUnavailable, sentWebhook{})
			}
			if !keep {
				dir = t.TempDir()
			}
			g.broker = newBroker(t, dir, kfake.Ports(port))
			if !keep {
				createTopics(t, g.broker.Addr())
			}
			g.wantRecovery()
		})
	}
}

// However many wait for Kafka, they hold no more than the limit. The others are refused
// at once, and those that waited are served in the end.
func TestMemoryIsBoundedWhileKafkaIsAway(t *testing.T) {
	const (
		limit    = 128 << 10
		requests = 1000
	)
	share := int64(heldPerRecord + len(clicked) + 1)
	fit := int(limit / share)
	g := newGateway(t, gatewayOptions{publishTimeout: deadline})
	g.producer.held.limit = limit
	kafka := holdProduce(t, g.broker)

	statuses := make(chan int, requests)
	for i := range requests {
		go func() {
			a := g.post(sentWebhook{id: strconv.Itoa(i)})
			if bytes := g.producer.held.bytes.Load(); bytes > limit {
				t.Errorf("%d bytes are held, the limit is %d", bytes, limit)
			}
			statuses <- a.status
		}()
	}
	for range requests - fit {
		if status := wait(t, "a refusal", statuses, 1); status != http.StatusServiceUnavailable {
			t.Fatalf("answered %d", status)
		}
	}
	if bytes := g.producer.held.bytes.Load(); bytes != int64(fit)*share {
		t.Errorf("%d bytes are held, want %d times %d", bytes, fit, share)
	}
	g.wantCounts(map[result]int{unavailable: requests - fit})

	kafka.release()
	for range fit {
		if status := wait(t, "an answer", statuses, 1); status != http.StatusOK {
			t.Errorf("answered %d when Kafka is back", status)
		}
	}
	wait(t, "handled", g.handled, requests)
	if bytes := g.producer.held.bytes.Load(); bytes != 0 {
		t.Errorf("%d bytes are held when all is answered", bytes)
	}
	g.wantRecords(fit, 0)
}

// What kgo still buffers after the answer is bounded too.
func TestClientBufferIsBounded(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: 20 * time.Millisecond})
	kafka := holdProduce(t, g.broker)
	body := bodyOfSize(provider.MaxValue)
	const requests = maxHeld/provider.MaxValue + 50
	jobs := make(chan int)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for i := range jobs {
				g.want(http.StatusServiceUnavailable, sentWebhook{id: strconv.Itoa(i), body: body})
				if bytes := g.producer.client.BufferedProduceBytes(); bytes > maxHeld {
					t.Errorf("kgo holds %d bytes, the limit is %d", bytes, maxHeld)
				}
			}
		})
	}
	for i := range requests {
		jobs <- i
	}
	close(jobs)
	senders.Wait()
	if bytes := g.producer.client.BufferedProduceBytes(); bytes < maxHeld/2 {
		t.Errorf("kgo holds %d bytes: the limit was never approached", bytes)
	}
	kafka.release()
	if err := g.producer.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes := g.producer.client.BufferedProduceBytes(); bytes != 0 {
		t.Errorf("kgo holds %d bytes when all is written", bytes)
	}
	g.producer.publishTimeout = deadline
	g.want(http.StatusOK, sentWebhook{})
}

// Clients that announce much and send nothing keep nobody out.
func TestAnnouncedBodiesHoldLittle(t *testing.T) {
	g := newGateway(t, gatewayOptions{})
	const attackers = 200 // 127 would do, if what is announced were held
	for i := range attackers {
		framing := fmt.Sprintf("Content-Length: %d\r\n", provider.MaxValue)
		if i%2 == 0 {
			framing = "Transfer-Encoding: chunked\r\n"
		}
		fmt.Fprint(g.dial(), rawRequest(sentWebhook{signature: "v1,forged"}, framing))
	}
	wait(t, "started", g.started, attackers)
	g.want(http.StatusOK, sentWebhook{})
	g.want(http.StatusOK, sentWebhook{body: bodyOfSize(provider.MaxValue)})
	if bytes := g.producer.arriving.reserved(); bytes > attackers*(heldPerRecord+firstRead) {
		t.Errorf("%d bytes are held", bytes)
	}
}

// swallow accepts connections, reads everything, and never answers.
func swallow(t *testing.T, listener net.Listener) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
}
