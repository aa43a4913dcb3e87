package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mailtally/mailtally/internal/localkafka"
)

// watched is a client configured as in the roles, and its log.
func watched(t *testing.T, brokers []string, more ...kgo.Opt) (*kgo.Client, *output) {
	t.Helper()
	return watchedWith(t, config{KafkaBrokers: brokers}, more...)
}

func watchedWith(t *testing.T, c config, more ...kgo.Opt) (*kgo.Client, *output) {
	t.Helper()
	written := newOutput()
	options, err := kafkaOptions(c, nil, slog.New(slog.NewJSONHandler(written, nil)))
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(options, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, written
}

// aboutBrokers gives the beginnings of the lines that the watch logged.
func aboutBrokers(o *output) (said []string) {
	for _, line := range o.lines() {
		if message := line["msg"].(string); strings.HasPrefix(message, "Kafka ") {
			end := strings.IndexAny(message+":", ":;")
			said = append(said, message[:end])
		}
	}
	return said
}

// failedRead is a hook that reports failed reads, once the watch has seen them.
type failedRead chan error

func (f failedRead) OnBrokerRead(_ kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	if err != nil {
		f <- err
	}
}

// A request that ran out of our own time is not a lost broker. An error from the broker
// is, until its next answer.
func TestBrokerWatch_OurOwnTimeIsOver(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	failed := make(failedRead, 10)
	client, written := watched(t, broker.ListenAddrs(), kgo.WithHooks(failed))
	if err := client.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context) error {
		// On this connection nobody else's requests are in flight, so the client closes
		// it when one times out. On the others it goes on reading.
		_, err := kmsg.NewPtrCreateTopicsRequest().RequestWith(ctx, client)
		return err
	}
	answered := func() {
		t.Helper()
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	answered()
	release := make(chan struct{})
	var cut atomic.Bool
	broker.ControlKey(int16(kmsg.CreateTopics), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if cut.Swap(false) {
			return nil, errors.New("cut"), true
		}
		broker.SleepControl(func() { <-release })
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want a deadline error", err)
	}
	<-failed
	close(release)
	if said := aboutBrokers(written); len(said) != 0 {
		t.Errorf("logged %q", said)
	}
	answered()
	cut.Store(true)
	answered()
	if said := aboutBrokers(written); !slices.Equal(said, []string{"Kafka broker lost", "Kafka broker back"}) {
		t.Errorf("logged %q", said)
	}
}

// A seed broker that is away is logged, without a promise to log its return: the client
// uses the addresses that another broker advertises.
func TestBrokerWatch_Seed(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Close()
	var said []string
	for n := 0; len(said) == 0 && n < 100; n++ { // the client may try the other one first
		client, written := watched(t, []string{away.Addr().String(), broker.ListenAddrs()[0]})
		if err := client.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		said = aboutBrokers(written)
	}
	if !slices.Equal(said, []string{"Kafka seed broker not reached"}) {
		t.Errorf("logged %q", said)
	}
}

// A broker that refuses our password has answered the handshake, and is not back. Brokers
// say it with an error, or hang up. The log names the variables to check.
func TestBrokerWatch_Refused(t *testing.T) {
	t.Parallel()
	const wrong = "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
	for _, test := range []struct {
		name string
		user string
		code int16 // that the broker answers
		want string
	}{
		{name: "a wrong password, and the broker hangs up", user: "mailtally", want: "EOF during the SASL handshake: " + wrong},
		{name: "a wrong password, and the broker says so", user: "mailtally", code: kerr.SaslAuthenticationFailed.Code, want: wrong},
		{name: "no SASL", want: "set KAFKA_SASL_MECHANISM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			broker, err := localkafka.Start(t.TempDir(), nil, localkafka.Password("mailtally", "right")...)
			if err != nil {
				t.Fatal(err)
			}
			defer broker.Close()
			if test.code != 0 {
				broker.Cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
					broker.Cluster.KeepControl()
					response := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
					response.ErrorCode = test.code
					return response, nil, true
				})
			}
			c := config{KafkaBrokers: []string{broker.Addr()}}
			if test.user != "" {
				c.KafkaSASLMechanism, c.KafkaSASLUsername, c.KafkaSASLPassword = "SCRAM-SHA-256", test.user, "wrong"
			}
			client, written := watchedWith(t, c, kgo.RetryTimeout(0))
			for range 3 {
				if err := client.Ping(t.Context()); err == nil {
					t.Fatal("the broker lets it in")
				}
			}
			if said := aboutBrokers(written); !slices.Equal(said, []string{"Kafka seed broker not reached"}) || !strings.Contains(written.String(), test.want) {
				t.Errorf("logged %q, want %q in\n%s", said, test.want, written)
			}
		})
	}
}

// A dial that timed out is a loss; one that we cancelled is not. A seed and a broker
// may have the same address.
func TestBrokerWatch_Dial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		written := newOutput()
		watch := newBrokerWatch(slog.New(slog.NewJSONHandler(written, nil)), false)
		dial := func(timeout time.Duration, node int32) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			<-ctx.Done()
			watch.OnBrokerConnect(kgo.BrokerMetadata{NodeID: node, Host: "kafka", Port: 9092}, time.Since(start), nil, &net.OpError{Op: "dial", Err: ctx.Err()})
		}
		dial(2*time.Second, 1)
		if said := aboutBrokers(written); len(said) != 0 {
			t.Errorf("logged %q", said)
		}
		for _, node := range []int32{-1, -1, 1, 1, -1, 1} {
			dial(kafkaDialTimeout, node)
		}
		watch.OnBrokerRead(kgo.BrokerMetadata{NodeID: 1, Host: "kafka", Port: 9092}, 0, 0, 0, 0, nil)
		if said := aboutBrokers(written); !slices.Equal(said, []string{"Kafka seed broker not reached", "Kafka broker lost", "Kafka broker back"}) {
			t.Errorf("logged %q", said)
		}
	})
}

// Nobody reads the log: the client's reads from other brokers go on.
func TestBrokerWatch_WhileLogsAreStuck(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	watch := newBrokerWatch(slog.New(slog.NewJSONHandler(write, nil)), false)
	var running sync.WaitGroup
	running.Go(func() {
		watch.OnBrokerConnect(kgo.BrokerMetadata{NodeID: 1, Host: "kafka", Port: 1}, 0, nil, errors.New("refused"))
	})
	if _, err := read.Read(make([]byte, 1)); err != nil { // and no more
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		watch.OnBrokerRead(kgo.BrokerMetadata{NodeID: 2, Host: "kafka", Port: 2}, 0, 0, 0, 0, nil)
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(patience):
		t.Error("a read from one broker waits for the line about another")
	}
	go io.Copy(io.Discard, read)
	running.Wait()
	<-answered
	write.Close()
}
