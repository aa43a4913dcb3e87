package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/plugin/kslog"
)

// kafkaLogger passes on what the Kafka client says, under the keys that all lines
// have. Its info lines are passed on only at debug level: it logs every
// step, and the roles log what matters.
type kafkaLogger struct{ *kslog.Logger }

func newKafkaLogger(log *slog.Logger) kafkaLogger { return kafkaLogger{kslog.New(log)} }

func (l kafkaLogger) Level() kgo.LogLevel {
	if level := l.Logger.Level(); level != kgo.LogLevelInfo {
		return level
	}
	return kgo.LogLevelWarn
}

// kafkaKeys maps the client's keys to ours. Its other keys are grouped under "kafka".
var kafkaKeys = map[string]string{"err": "error", "addr": "broker", "topic": "topic", "partition": "partition", "group": "group"}

func (l kafkaLogger) Log(level kgo.LogLevel, message string, pairs ...any) {
	var ours, rest []any
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if key := kafkaKeys[name]; key != "" {
			ours = append(ours, key, pairs[i+1])
		} else {
			rest = append(rest, name, pairs[i+1])
		}
	}
	if len(rest) > 0 {
		ours = append(ours, slog.Group("kafka", rest...))
	}
	l.Logger.Log(level, message, ours...)
}

// kafkaDialTimeout is how long a broker has to accept a connection.
const kafkaDialTimeout = 10 * time.Second

// brokerWatch is a hook of a Kafka client that logs when a broker is lost, and when it
// answers again. An idle connection that closes is not a loss, nor is a request that
// ran out of our own time before the broker's timeout.
//
// Seeds are reported as lost too, but hardly ever as back: once the client has reached
// any broker, it uses the addresses from the cluster's metadata.
type brokerWatch struct {
	log  *slog.Logger
	sasl bool // is configured

	mu      sync.Mutex           // never held while writing: the client's reads wait for it
	lost    map[int32]brokerLoss // by the client's node id; seeds have negative ones
	reached bool                 // some broker has answered a request
}

type brokerLoss struct {
	since time.Time
	tries int
}

func newBrokerWatch(log *slog.Logger, sasl bool) *brokerWatch {
	return &brokerWatch{log: log, sasl: sasl, lost: make(map[int32]brokerLoss)}
}

// OnBrokerConnect is a [kgo.HookBrokerConnect], called after the handshake. A connection
// alone does not mean that the broker is back: a proxy may have accepted it. A dial that
// took all its time looks the same as a request that timed out.
func (w *brokerWatch) OnBrokerConnect(broker kgo.BrokerMetadata, took time.Duration, _ net.Conn, err error) {
	if err != nil && (took >= kafkaDialTimeout || !errors.Is(err, context.DeadlineExceeded)) {
		if w.sasl {
			err = saslHint(err)
		}
		w.failed(broker, err)
	}
}

// OnBrokerRead is a [kgo.HookBrokerRead]. If the broker's own timeout expired, the
// error is another one, [os.ErrDeadlineExceeded].
func (w *brokerWatch) OnBrokerRead(broker kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	switch {
	case isHandshake(key): // OnBrokerConnect hears how it ended; a broker answers strangers too
	case err == nil:
		w.answered(broker)
	case !errors.Is(err, context.DeadlineExceeded):
		if !w.sasl && errors.Is(err, io.EOF) && !w.hasReached() {
			err = fmt.Errorf("%w: if the broker requires SASL, set KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", err)
		}
		w.failed(broker, err)
	}
}

// isHandshake reports whether requests of that key open a connection.
func isHandshake(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
		return true
	}
	return false
}

// saslHint adds to the error of a connection with SASL which variables to check, if the
// broker seems to have refused them. Some brokers just hang up; the client wraps what
// it reads if they do so before SASL begins.
func saslHint(err error) error {
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("%w: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", err)
	case errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return fmt.Errorf("%w: check KAFKA_SASL_MECHANISM", err)
	case errors.Is(err, io.EOF) && !errors.As(err, new(*kgo.ErrFirstReadEOF)):
		return fmt.Errorf("%w during the SASL handshake: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD", err)
	}
	return err
}

func (w *brokerWatch) hasReached() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached
}

func (w *brokerWatch) failed(broker kgo.BrokerMetadata, err error) {
	// The client itself closed it.
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, net.ErrClosed) {
		return
	}
	w.mu.Lock()
	loss, isLost := w.lost[broker.NodeID]
	if !isLost {
		loss.since = time.Now()
	}
	loss.tries++
	w.lost[broker.NodeID] = loss
	w.mu.Unlock()
	switch {
	case isLost: // already logged
	case broker.NodeID < 0:
		w.log.Warn("Kafka seed broker not reached; any other seed broker will do", "broker", brokerAddr(broker), "error", err)
	default:
		w.log.Warn("Kafka broker lost: retrying until it is back", "broker", brokerAddr(broker), "error", err)
	}
}

func (w *brokerWatch) answered(broker kgo.BrokerMetadata) {
	w.mu.Lock()
	loss, wasLost := w.lost[broker.NodeID]
	delete(w.lost, broker.NodeID)
	w.reached = true
	w.mu.Unlock()
	if wasLost {
		w.log.Info("Kafka broker back", "broker", brokerAddr(broker), "duration", since(loss.since), "tries", loss.tries)
	}
}

func brokerAddr(b kgo.BrokerMetadata) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
