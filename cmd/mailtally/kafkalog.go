package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
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
// Seeds are reported as lost too, but never as back: once the client has reached any
// broker, it uses the addresses from the cluster's metadata.
type brokerWatch struct {
	log *slog.Logger

	mu   sync.Mutex           // never held while writing: the client's reads wait for it
	lost map[int32]brokerLoss // by the client's node id; seeds have negative ones
}

type brokerLoss struct {
	since time.Time
	tries int
}

func newBrokerWatch(log *slog.Logger) *brokerWatch {
	return &brokerWatch{log: log, lost: make(map[int32]brokerLoss)}
}

// OnBrokerConnect is a [kgo.HookBrokerConnect]. A connection alone does not mean that
// the broker is back: a proxy may have accepted it. A dial that took all its time looks
// the same as a request that timed out.
func (w *brokerWatch) OnBrokerConnect(broker kgo.BrokerMetadata, took time.Duration, _ net.Conn, err error) {
	if err != nil && (took >= kafkaDialTimeout || !errors.Is(err, context.DeadlineExceeded)) {
		w.failed(broker, err)
	}
}

// OnBrokerRead is a [kgo.HookBrokerRead]. If the broker's own timeout expired, the
// error is another one, [os.ErrDeadlineExceeded].
func (w *brokerWatch) OnBrokerRead(broker kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	switch {
	case err == nil:
		w.answered(broker)
	case !errors.Is(err, context.DeadlineExceeded):
		w.failed(broker, err)
	}
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
		w.log.Warn("Kafka seed broker not reached: any other that is will do", "broker", brokerAddr(broker), "error", err)
	default:
		w.log.Warn("Kafka broker lost: retrying until it is back", "broker", brokerAddr(broker), "error", err)
	}
}

func (w *brokerWatch) answered(broker kgo.BrokerMetadata) {
	w.mu.Lock()
	loss, wasLost := w.lost[broker.NodeID]
	delete(w.lost, broker.NodeID)
	w.mu.Unlock()
	if wasLost {
		w.log.Info("Kafka broker back", "broker", brokerAddr(broker), "duration", since(loss.since), "tries", loss.tries)
	}
}

func brokerAddr(b kgo.BrokerMetadata) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
