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
// have. Its information goes on only where debug is asked for: it speaks of every
// step, and the roles say what matters of it.
type kafkaLogger struct{ *kslog.Logger }

func newKafkaLogger(log *slog.Logger) kafkaLogger { return kafkaLogger{kslog.New(log)} }

func (l kafkaLogger) Level() kgo.LogLevel {
	if level := l.Logger.Level(); level != kgo.LogLevelInfo {
		return level
	}
	return kgo.LogLevelWarn
}

// kafkaKeys are the client's names for what has a name here. The rest of what it
// says is together, as "kafka".
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

// brokerWatch is a hook of a Kafka client that logs when a broker is lost, and when
// it answers again. A connection that ends while nothing is asked of it is no loss.
type brokerWatch struct {
	log *slog.Logger

	mu   sync.Mutex
	lost map[string]*brokerLoss // by address: no more than there are brokers
}

type brokerLoss struct {
	since time.Time
	tries int
}

func newBrokerWatch(log *slog.Logger) *brokerWatch {
	return &brokerWatch{log: log, lost: make(map[string]*brokerLoss)}
}

// OnBrokerConnect is a [kgo.HookBrokerConnect]. That a connection is made is no
// answer yet: what accepts it may be a proxy.
func (w *brokerWatch) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		w.failed(broker, err)
	}
}

// OnBrokerRead is a [kgo.HookBrokerRead].
func (w *brokerWatch) OnBrokerRead(broker kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	if err != nil {
		w.failed(broker, err)
	} else {
		w.answered(broker)
	}
}

func (w *brokerWatch) failed(broker kgo.BrokerMetadata, err error) {
	// It was the client that ended it.
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, net.ErrClosed) {
		return
	}
	addr := brokerAddr(broker)
	w.mu.Lock()
	defer w.mu.Unlock()
	if loss := w.lost[addr]; loss != nil {
		loss.tries++
		return
	}
	w.lost[addr] = &brokerLoss{since: time.Now(), tries: 1}
	w.log.Warn("Kafka broker lost: tried again until it is back", "broker", addr, "error", err)
}

func (w *brokerWatch) answered(broker kgo.BrokerMetadata) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lost) == 0 {
		return
	}
	addr := brokerAddr(broker)
	if loss := w.lost[addr]; loss != nil {
		delete(w.lost, addr)
		w.log.Info("Kafka broker back", "broker", addr, "duration", since(loss.since), "tries", loss.tries)
	}
}

func brokerAddr(b kgo.BrokerMetadata) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}
