// Package localkafka runs an embedded Kafka broker for mailtally dev and the tests:
// franz-go's kfake, which speaks the real protocol, with its data on disk, since in
// memory it would grow endlessly.
//
// Do not trust it with data: it is a single broker, and after a kill -9 in the middle
// of a write it may contain a record twice, despite idempotent producers. mailtally
// counts it once all the same.
package localkafka

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// retentionInterval is how often old segments are removed.
const retentionInterval = time.Minute

// Broker is a running broker.
type Broker struct {
	// Cluster is the broker itself, for tests that make it fail.
	Cluster *kfake.Cluster
	stop    chan struct{}
	running sync.WaitGroup
	once    sync.Once
}

// Start runs a broker on a free port of 127.0.0.1 with its data in dir, which is
// created if missing. The caller makes sure that no other broker uses dir.
func Start(dir string, log *slog.Logger, more ...kfake.Opt) (*Broker, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("localkafka: make the folder: %w", err)
	}
	options := append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.DataDir(dir),
		kfake.WithLogger(logger{log}),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			listener, err := net.Listen(network, address)
			return &guard{listener, log}, err
		}),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "604800000", "log.retention.bytes": "268435456"}),
	}, more...)
	// The passwords are those of options; kfake would prefer those of an earlier run.
	if err := os.Remove(filepath.Join(dir, "sasl.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("localkafka: forget the passwords of an earlier run: %w", err)
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("localkafka: start the embedded Kafka on %s: %w", dir, err)
	}
	b := &Broker{Cluster: cluster, stop: make(chan struct{})}
	b.running.Go(func() {
		ticker := time.NewTicker(retentionInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				cluster.ApplyRetention()
			case <-b.stop:
				return
			}
		}
	})
	return b, nil
}

// Password is the options for a broker that serves none but that user, by SCRAM-SHA-256.
// (By PLAIN, kfake lets in any unknown user with an empty password.)
func Password(user, password string) []kfake.Opt {
	return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", user, password)}
}

// Addr is the broker's host:port.
func (b *Broker) Addr() string { return b.Cluster.ListenAddrs()[0] }

// Close stops the broker, after its data is written. It may be called more than once.
func (b *Broker) Close() {
	b.once.Do(func() {
		close(b.stop)
		b.running.Wait()
		b.Cluster.Close()
	})
}

// logger passes on the faults that the broker logs.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	if level == kfake.LogLevelError && l.log != nil {
		l.log.Error(fmt.Sprintf(format, args...), "component", "embedded kafka")
	}
}
