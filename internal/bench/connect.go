package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/bench/apachekafka"
	"github.com/mailtally/mailtally/tracking"
)

const (
	connectVersion  = "4.3.1"
	debeziumVersion = "3.6.0.Final"

	connectTopic = "peers-connect"
)

//go:embed connect/pom.xml
var connectPom []byte

// connectTable is what the sink appends to: the columns of mailtally's history,
// of types that arrays of text are cast to, and with no key, so no index.
const connectTable = `
CREATE TABLE public.connect_event (
    email_id    uuid        NOT NULL,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    ip          text,
    user_agent  text,
    link        text
)`

// connectField is a field of Connect's schema in JSON; name is its meaning.
type connectField struct {
	Field    string `json:"field"`
	Type     string `json:"type"`
	Name     string `json:"name,omitempty"`
	Optional bool   `json:"optional"`
}

// connectSchema is what the sink is told of the records, once.
func connectSchema() (string, error) {
	text, err := json.Marshal(struct {
		Type   string         `json:"type"`
		Fields []connectField `json:"fields"`
	}{"struct", []connectField{
		{"email_id", "string", "io.debezium.data.Uuid", false},
		{"event_id", "string", "", false},
		{"type", "string", "", false},
		{"occurred_at", "string", "io.debezium.time.ZonedTimestamp", false},
		{"ip", "string", "", true},
		{"user_agent", "string", "", true},
		{"link", "string", "", true},
	}})
	return string(text), err
}

// connectRecord is an event as the sink takes it: flat, since it cannot look
// into a webhook's body. Somebody else has done that work.
func connectRecord(topic string, e *tracking.Event) (*kgo.Record, error) {
	type columns struct {
		EmailID    string    `json:"email_id"`
		EventID    string    `json:"event_id"`
		Type       string    `json:"type"`
		OccurredAt time.Time `json:"occurred_at"`
		IP         string    `json:"ip,omitempty"`
		UserAgent  string    `json:"user_agent,omitempty"`
		Link       string    `json:"link,omitempty"`
	}
	c := columns{e.EmailID.String(), e.EventID, e.Type.String(), e.OccurredAt, "", e.UserAgent, e.Link}
	if e.IP.IsValid() {
		c.IP = e.IP.String()
	}
	value, err := json.Marshal(c)
	return &kgo.Record{Topic: topic, Key: []byte(c.EmailID), Value: value}, err
}

// fillConnect makes a topic and has it hold the sink's records of events.
func fillConnect(ctx context.Context, client *kgo.Client, name string, partitions int, events []tracking.Event) error {
	if err := createTopics(ctx, client, partitions, name, deadLetterTopic); err != nil {
		return err
	}
	for some := range slices.Chunk(events, 20_000) {
		records := make([]*kgo.Record, len(some))
		for i := range some {
			var err error
			if records[i], err = connectRecord(name, &some[i]); err != nil {
				return fmt.Errorf("write event %q as JSON: %w", some[i].EventID, err)
			}
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return fmt.Errorf("fill topic %q: %w", name, err)
		}
	}
	return nil
}

// connectJVM has the heap that Kafka's own script allows a worker, and another
// collector: with the script's, which is to keep pauses short, the worker takes
// half as much CPU time again.
var connectJVM = []string{"-server", "-Xms1G", "-Xmx2G", "-XX:+UseParallelGC"}

// connectWorker has the worker's settings; all else is as it comes.
var connectWorker = map[string]string{
	"key.converter":                  "org.apache.kafka.connect.storage.StringConverter",
	"value.converter":                "org.apache.kafka.connect.json.JsonConverter",
	"value.converter.schemas.enable": "true",
	"plugin.discovery":               "service_load", // starts sooner
}

// connectSink are the sink's settings, chosen for throughput: one INSERT … SELECT
// FROM unnest(…) a batch in place of a row of VALUES for each record, batches and
// polls of ten times as many records as it comes with, and a task for each of two
// cores.
var connectSink = map[string]string{
	"name":                                   "peer",
	"connector.class":                        "io.debezium.connector.jdbc.JdbcSinkConnector",
	"tasks.max":                              "2",
	"insert.mode":                            "insert",
	"primary.key.mode":                       "none",
	"schema.evolution":                       "none",
	"collection.name.format":                 "public.connect_event",
	"batch.size":                             "5000",
	"dialect.postgres.unnest.insert.enabled": "true",
	"consumer.override.max.poll.records":     "5000",
	"consumer.override.auto.offset.reset":    "earliest",
	// How long a killed worker's partitions stay with it. (45 s as it comes, which
	// is a long wait for a benchmark.)
	"consumer.override.session.timeout.ms":    "10000",
	"consumer.override.heartbeat.interval.ms": "3000",
}

// connectRunner is a standalone worker with the sink.
type connectRunner struct {
	*process
	rest string // its own interface's URL
}

// startConnect starts one, which consumes the topic as a member of that group.
func (b *bench) startConnect(ctx context.Context, k *kafka, group, database string) (*connectRunner, error) {
	java, err := apachekafka.Java(ctx)
	if err != nil {
		return nil, err
	}
	jars, err := apachekafka.Jars(ctx, "kafka-connect-"+connectVersion, connectPom, b.log)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "connect-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	worker := maps.Clone(connectWorker)
	worker["bootstrap.servers"] = strings.Join(k.Addrs(), ",")
	worker["listeners"] = "http://" + addr
	worker["offset.storage.file.filename"] = filepath.Join(dir, "offsets")
	if worker["value.converter.schema.content"], err = connectSchema(); err != nil {
		return nil, err
	}
	sink := maps.Clone(connectSink)
	sink["topics"] = connectTopic
	sink["consumer.override.group.id"] = group
	if err := connectTo(sink, database); err != nil {
		return nil, err
	}
	for name, properties := range map[string]map[string]string{"worker": worker, "sink": sink} {
		if err := os.WriteFile(filepath.Join(dir, name+".properties"), javaProperties(properties), 0o600); err != nil {
			return nil, err
		}
	}
	args := append(slices.Clone(connectJVM),
		"-Djava.io.tmpdir="+dir, "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(jars, "*"), "org.apache.kafka.connect.cli.ConnectStandalone",
		filepath.Join(dir, "worker.properties"), filepath.Join(dir, "sink.properties"))
	b.report.Machine.version("Kafka Connect", connectVersion)
	b.report.Machine.version("Debezium's JDBC sink", debeziumVersion)
	program, err := b.start("kafka-connect", nil, java, args...)
	if err != nil {
		return nil, err
	}
	return &connectRunner{program, "http://" + addr + "/connectors/" + sink["name"]}, nil
}

// suspend has the sink let go of Kafka and the database, and forget how far it
// has come. The worker stays.
func (c *connectRunner) suspend(ctx context.Context) error {
	if err := c.ask(ctx, http.MethodPut, "/stop"); err != nil {
		return err
	}
	return c.ask(ctx, http.MethodDelete, "/offsets")
}

// resume has it begin at the topic's first record.
func (c *connectRunner) resume(ctx context.Context) error {
	return c.ask(ctx, http.MethodPut, "/resume")
}

// ask has the worker do something. It refuses while it is still busy with what
// it was asked before, so that is asked again for a while.
func (c *connectRunner) ask(ctx context.Context, method, what string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, method, c.rest+what, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("ask Kafka Connect: %w\n%s", err, c.tail())
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return fmt.Errorf("ask Kafka Connect for %s: %w", what, err)
		}
		if response.StatusCode/100 == 2 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("ask Kafka Connect for %s: %s: %s", what, response.Status, answer)
		}
	}
}

// connectTo writes the database's URL as JDBC wants it.
func connectTo(sink map[string]string, database string) error {
	u, err := url.Parse(database)
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", err)
	}
	password, _ := u.User.Password()
	sink["connection.url"] = "jdbc:postgresql://" + u.Host + u.Path + "?reWriteBatchedInserts=true"
	sink["connection.username"], sink["connection.password"] = u.User.Username(), password
	return nil
}

// javaProperties is a file of them.
func javaProperties(properties map[string]string) []byte {
	var text bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", name, strings.ReplaceAll(properties[name], `\`, `\\`))
	}
	return text.Bytes()
}

// connectRows counts what the sink has appended: rows, and distinct events among
// them.
func connectRows(ctx context.Context, pool *pgxpool.Pool) (rows, distinct int, err error) {
	err = pool.QueryRow(ctx, "SELECT count(*), count(DISTINCT event_id) FROM public.connect_event").Scan(&rows, &distinct)
	return rows, distinct, err
}

// connectSettings are the sink's that matter, for the report.
func connectSettings() string {
	text := []string{strings.Join(connectJVM, " ")}
	for _, name := range []string{"tasks.max", "batch.size", "dialect.postgres.unnest.insert.enabled", "consumer.override.max.poll.records"} {
		text = append(text, name+"="+connectSink[name])
	}
	return strings.Join(text, ", ")
}
