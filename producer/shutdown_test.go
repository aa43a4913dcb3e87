package producer

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Webhooks in flight when the server shuts down are answered once their outcome is
// known.
func TestShutdownWithWebhooksInFlight(t *testing.T) {
	for name, status := range map[string]int{"acknowledged": http.StatusOK, "refused": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			const inFlight = 20
			g := newGateway(t, gatewayOptions{publishTimeout: deadline})
			kafka := holdProduce(t, g.broker)
			for i := range inFlight {
				go g.want(status, sentWebhook{id: strconv.Itoa(i)})
			}
			wait(t, "started", g.started, inFlight)
			wait(t, "a produce request", kafka.arrived, 1)

			begun, ended := make(chan struct{}), make(chan error, 1)
			g.server.RegisterOnShutdown(func() { close(begun) })
			go func() { ended <- g.server.Shutdown(t.Context()) }()
			wait(t, "the shutdown's begin", begun, 1)
			select {
			case err := <-ended:
				t.Errorf("shut down with webhooks in flight: %v", err)
			default:
			}
			if status == http.StatusServiceUnavailable {
				g.broker.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Count: -1})
			}
			kafka.release()
			if err := wait(t, "the shutdown's end", ended, 1); err != nil {
				t.Error(err)
			}
			wait(t, "handled", g.handled, inFlight)
			g.producer.Close()
			if status == http.StatusOK {
				g.wantRecords(inFlight, 0)
				g.wantCounts(map[result]int{accepted: inFlight})
			} else {
				g.wantRecords(0, 0)
				g.wantCounts(map[result]int{unavailable: inFlight})
			}
		})
	}
}

// Close does not wait for a Kafka that is away, and what still waits for it is not
// accepted.
func TestCloseWhileKafkaIsAway(t *testing.T) {
	g := newGateway(t, gatewayOptions{publishTimeout: deadline})
	kafka := holdProduce(t, g.broker)
	answered := make(chan struct{})
	go func() {
		g.want(http.StatusServiceUnavailable, sentWebhook{})
		close(answered)
	}()
	wait(t, "a produce request", kafka.arrived, 1)
	g.producer.Close()
	wait(t, "the answer", answered, 1)
	g.want(http.StatusServiceUnavailable, sentWebhook{})
	g.wantCounts(map[result]int{unavailable: 2})
}
