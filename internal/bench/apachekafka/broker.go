package apachekafka

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailtally/mailtally/internal/bench/child"
)

const (
	logFile        = "log"
	propertiesFile = "server.properties"

	// What an error quotes of a broker's log.
	maxLogTail = 4 << 10
)

// broker is one node: a broker and a controller in one process.
type broker struct {
	id               int
	dir              string
	addr, controller string // host:port of its two listeners
	process          *child.Process
}

// configure writes the broker's properties.
func (b *broker) configure(all []*broker, more map[string]string) error {
	voters := make([]string, len(all))
	for i, other := range all {
		voters[i] = fmt.Sprintf("%d@%s", other.id, other.controller)
	}
	replicas, inSync := "1", "1"
	if len(all) >= 3 {
		replicas, inSync = "3", "2"
	}
	properties := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        fmt.Sprint(b.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"listeners":                      "PLAINTEXT://" + b.addr + ",CONTROLLER://" + b.controller,
		"advertised.listeners":           "PLAINTEXT://" + b.addr,
		"log.dirs":                       filepath.Join(b.dir, "data"),

		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,

		// A topic is what its creator says, and keeps what it was given.
		"auto.create.topics.enable": "false",
		"log.retention.ms":          "-1",
		// A broker that was killed is missed soon, and a group of members begins at
		// once.
		"broker.session.timeout.ms":        "3000",
		"broker.heartbeat.interval.ms":     "500",
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "1000",
		// All end together, so no leader has anywhere to move to.
		"controlled.shutdown.enable": "false",
		// For two cores, and a small heap: of the 128 MB for compaction nothing
		// would ever be used.
		"num.network.threads":               "2",
		"num.io.threads":                    "4",
		"log.cleaner.dedupe.buffer.size":    "4194304",
		"background.threads":                "2",
		"num.recovery.threads.per.data.dir": "1",
	}
	maps.Copy(properties, more)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		// A backslash begins an escape in Java's properties.
		fmt.Fprintf(&text, "%s=%s\n", name, strings.ReplaceAll(properties[name], `\`, `\\`))
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, propertiesFile), []byte(text.String()), 0o644)
}

// java is a command that runs one of Kafka's classes.
func (c *Cluster) java(b *broker, flags []string, class string, args ...string) *exec.Cmd {
	flags = append(slices.Clip(flags),
		// Kafka unpacks native libraries, and the JVM keeps its counters, in the
		// system's temporary folder, where a kill would leave them.
		"-Djava.io.tmpdir="+b.dir, "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-cp", filepath.Join(c.jars, "*"), class)
	cmd := exec.Command(c.program, append(flags, args...)...)
	cmd.Dir = b.dir
	cmd.Env = javaEnv()
	return cmd
}

// format makes the broker's data folder, unless there is one.
func (c *Cluster) format(ctx context.Context, b *broker) error {
	if exists(filepath.Join(b.dir, "data", "meta.properties")) {
		return nil
	}
	// One thread that interprets is the fastest for a second's work.
	flags := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}
	return child.Run(ctx, c.java(b, flags, "kafka.tools.StorageTool", "format", "-t", c.id, "-c", filepath.Join(b.dir, propertiesFile)))
}

// launch starts the broker's process; it is not ready yet.
func (c *Cluster) launch(b *broker, flags []string) error {
	out, err := os.Create(filepath.Join(b.dir, logFile))
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own
	cmd := c.java(b, flags, "kafka.Kafka", filepath.Join(b.dir, propertiesFile))
	cmd.Stdout, cmd.Stderr = out, out
	b.process, err = child.Start(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return nil
}

// tail is the end of what the broker said, for an error.
func (b *broker) tail() string {
	path := filepath.Join(b.dir, logFile)
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	size, _ := file.Seek(0, io.SeekEnd)
	from := max(0, size-maxLogTail)
	text, _ := io.ReadAll(io.NewSectionReader(file, from, size-from))
	if len(text) == 0 {
		return "(it logged nothing to " + path + ")"
	}
	return "the end of " + path + ":\n" + strings.TrimSpace(string(text))
}

// freeAddrs are addresses on loopback that nobody listens on, all different.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
		}
		defer l.Close() // only when all are found
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}
