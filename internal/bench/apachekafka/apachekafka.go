// Package apachekafka runs a broker of Apache Kafka on loopback, for the
// benchmarks: the real one, from the jars of Maven Central, without a container or
// an archive to unpack.
//
// It needs a JDK 17 or newer, and Maven the first time. The broker runs in KRaft
// mode and is its own controller. It writes to disk as Kafka does by default,
// without fsync: what is acknowledged is in the page cache.
package apachekafka

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/bench/child"
)

// Version is the broker's.
const Version = "4.4.0"

// clusterID is 16 bytes in base64. Each broker is a cluster of its own.
const clusterID = "bWFpbHRhbGx5J3MgYmVuYw"

// properties are server.properties, given the broker's address, its controller's
// and its folder.
const properties = `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
log.dirs=%[3]s/data
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A topic is what its creator says, and keeps what it was given.
auto.create.topics.enable=false
log.retention.ms=-1
# A group of members begins at once.
group.initial.rebalance.delay.ms=0
# For two cores, and a small heap.
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
background.threads=2
num.recovery.threads.per.data.dir=1
`

// Broker is a running broker.
type Broker struct {
	addr    string
	process *child.Process
}

// Start runs a broker with its data and log in dir, which it creates and the caller
// removes, and returns when the broker answers. ctx bounds only the start, including a
// download: the broker runs until Kill, or until this process ends. After an error no
// process is left. A download is logged to log.
func Start(ctx context.Context, dir string, log *slog.Logger) (b *Broker, err error) {
	defer func() {
		if err != nil {
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			err = fmt.Errorf("start Apache Kafka %s in %s: %w\n%s", Version, dir, err, said[max(0, len(said)-4<<10):])
		}
	}()
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" { // as for Maven
		java = filepath.Join(home, "bin", "java")
	}
	if java, err = exec.LookPath(java); err != nil {
		return nil, fmt.Errorf("%w: install a JDK 17 or newer, or set JAVA_HOME", err)
	}
	jars, err := jars(ctx, log)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	b = &Broker{}
	if b.addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	controller, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, fmt.Appendf(nil, properties, b.addr, controller, dir), 0o644); err != nil {
		return nil, err
	}
	command := func(class string, args ...string) *exec.Cmd {
		cmd := exec.Command(java, append([]string{
			// It shares the machine with everything else that is measured: so the
			// collector gets no threads of its own, and the heap is allocated at once.
			"-server", "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC",
			// Kafka unpacks native libraries, and the JVM keeps its counters, in the
			// system's temporary folder, where a kill would leave them.
			"-Djava.io.tmpdir=" + dir, "-XX:-UsePerfData",
			"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
			"-cp", filepath.Join(jars, "*"), class}, args...)...)
		// Nothing from the environment that would configure the JVM.
		cmd.Dir, cmd.Env = dir, []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
		return cmd
	}
	if err := child.Run(ctx, command("kafka.tools.StorageTool", "format", "-t", clusterID, "-c", file)); err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own
	cmd := command("kafka.Kafka", file)
	cmd.Stdout, cmd.Stderr = out, out
	if b.process, err = child.Start(cmd); err != nil {
		return nil, err
	}
	if err := b.ready(ctx); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

// ready returns once the broker answers.
func (b *Broker) ready(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if metadata, err := kadm.NewClient(client).BrokerMetadata(ctx); err == nil && len(metadata.Brokers) == 1 {
			return nil
		}
		select {
		case <-tick.C:
		case <-b.process.Done():
			return fmt.Errorf("it ended: %w", b.process.Err())
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", context.Cause(ctx))
		}
	}
}

// Addr is the broker's address, host:port.
func (b *Broker) Addr() string { return b.addr }

// Pid is the broker's process id.
func (b *Broker) Pid() int { return b.process.Pid() }

// Kill ends the broker as a power cut would, and returns when it is gone.
func (b *Broker) Kill() { b.process.Kill() }

// FreeAddr is a loopback address that nobody listens on. Its port is below those that
// Linux gives to outgoing connections, one of which could take it before the caller
// listens.
func FreeAddr() (addr string, err error) {
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("find a free port on 127.0.0.1: %w", err)
}
