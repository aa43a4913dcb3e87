// Package apachekafka runs brokers of Apache Kafka on loopback, for the
// benchmarks: the real ones, from the jars of Maven Central, without a container
// or an archive to unpack.
//
// It needs a JDK 17 or newer, and Maven the first time. The brokers run in KRaft
// mode, each of them a controller too. They write to disk as Kafka does by
// default, without fsync: what is acknowledged is in the page cache of as many
// machines as min.insync.replicas says.
package apachekafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Version is that of the brokers.
const Version = "4.4.0"

// startAttempts bounds the retries where others take the chosen ports between
// the choice and the brokers' bind.
const startAttempts = 5

// Options of Start. The zero value of each field but Dir is usable.
type Options struct {
	// Dir is where the brokers have their data and logs, each in a folder of its
	// own. Made if missing, and without an earlier cluster's data. The caller
	// removes it.
	Dir string

	// Brokers is how many there are, 1 if zero. From three on topics have three
	// replicas of which two must be in sync, or else one.
	Brokers int

	// Properties are extra ones, as in server.properties.
	Properties map[string]string

	// JVM are extra flags of the brokers' Java. Where they contradict the usual
	// ones, they count.
	JVM []string

	// Log hears what takes time: the download. nil is silent.
	Log *slog.Logger
}

// usualJVM suits a machine that the broker shares with all else that is being
// measured: a collector without threads of its own and a heap that is taken at
// once. Both compilers run, as in production.
var usualJVM = []string{"-server", "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC"}

// Cluster is a number of running brokers.
type Cluster struct {
	id, jars, program string
	brokers           []*broker
}

// Start runs brokers and returns when all of them answer. ctx bounds the start
// alone: started brokers run until Stop, or until this process ends.
//
// After an error no process is left.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{id: newID()}
	if c.program, err = Java(ctx); err != nil {
		return nil, err
	}
	if c.jars, err = jars(ctx, o.Log); err != nil {
		return nil, err
	}
	for i := range o.Brokers {
		c.brokers = append(c.brokers, &broker{id: i + 1, dir: filepath.Join(dir, fmt.Sprint(i+1))})
	}
	for attempt := 1; ; attempt++ {
		err := c.start(ctx, o)
		if err == nil {
			return c, nil
		}
		c.killAll()
		if !errors.Is(err, errPortTaken) || attempt == startAttempts {
			return nil, fmt.Errorf("start Apache Kafka %s in %s: %w", Version, dir, err)
		}
	}
}

// start does it once, on ports that were free a moment ago.
func (c *Cluster) start(ctx context.Context, o Options) error {
	addrs, err := freeAddrs(2 * len(c.brokers))
	if err != nil {
		return err
	}
	for i, b := range c.brokers {
		b.addr, b.controller = addrs[2*i], addrs[2*i+1]
	}
	formatting, formatCtx := errgroup.WithContext(ctx)
	for _, b := range c.brokers {
		if err := b.configure(c.brokers, o.Properties); err != nil {
			return err
		}
		formatting.Go(func() error { return c.format(formatCtx, b) })
	}
	if err := formatting.Wait(); err != nil {
		return err
	}
	flags := append(append([]string(nil), usualJVM...), o.JVM...)
	for _, b := range c.brokers {
		if err := c.launch(b, flags); err != nil {
			return err
		}
	}
	return c.waitReady(ctx)
}

var errPortTaken = errors.New("a port was taken")

// waitReady returns once each broker knows of all.
func (c *Cluster) waitReady(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, b := range c.brokers {
		for !c.knownTo(ctx, b) {
			if err := c.ended(); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("wait until broker %d answers: %w\n%s", b.id, context.Cause(ctx), b.tail())
			}
		}
	}
	return nil
}

// ended is the end of a broker that should run.
func (c *Cluster) ended() error {
	for _, b := range c.brokers {
		select {
		case <-b.process.Done():
			err := fmt.Errorf("broker %d ended: %w\n%s", b.id, b.process.Err(), b.tail())
			// The exit status does not say it.
			if strings.Contains(b.tail(), "Address already in use") {
				err = fmt.Errorf("%w: %w", errPortTaken, err)
			}
			return err
		default:
		}
	}
	return nil
}

// knownTo asks a broker whether it knows all brokers of this very cluster: on
// its port somebody else might answer. A client asks once, as the next time it
// might ask another broker.
func (c *Cluster) knownTo(ctx context.Context, b *broker) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RequestRetries(0))
	if err != nil {
		return false
	}
	defer client.Close()
	metadata, err := kadm.NewClient(client).BrokerMetadata(ctx)
	return err == nil && metadata.Cluster == c.id && len(metadata.Brokers) == len(c.brokers)
}

// Addrs are the brokers' addresses, host:port.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.brokers))
	for i, b := range c.brokers {
		addrs[i] = b.addr
	}
	return addrs
}

// Pids are the brokers' process ids, in the order of Addrs.
func (c *Cluster) Pids() []int {
	pids := make([]int, len(c.brokers))
	for i, b := range c.brokers {
		pids[i] = b.process.Pid()
	}
	return pids
}

// Kill ends the i-th broker as a power cut would, and returns when it is gone.
func (c *Cluster) Kill(i int) { c.brokers[i].process.Kill() }

// Stop has the brokers end, and returns when they are gone. Those that still run
// when ctx ends are killed, which is an error. It may be called more than once.
func (c *Cluster) Stop(ctx context.Context) error {
	for _, b := range c.brokers {
		b.process.Signal(syscall.SIGTERM)
	}
	for _, b := range c.brokers {
		select {
		case <-b.process.Done():
		case <-ctx.Done():
			c.killAll()
			return fmt.Errorf("stop Apache Kafka in %s: killed: %w", filepath.Dir(c.brokers[0].dir), context.Cause(ctx))
		}
	}
	return nil
}

func (c *Cluster) killAll() {
	for _, b := range c.brokers {
		if b.process != nil {
			b.process.Kill()
		}
	}
}

// newID is a cluster's: 16 bytes in base64. Kafka's tool would take a leading
// dash for a flag.
func newID() string {
	for {
		var id [16]byte
		rand.Read(id[:])
		if text := base64.RawURLEncoding.EncodeToString(id[:]); !strings.HasPrefix(text, "-") {
			return text
		}
	}
}
