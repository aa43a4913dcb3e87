package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/bench/apachekafka"
	"github.com/mailtally/mailtally/internal/bench/child"
)

// The jars of Kafka's image: the broker, the image's own start, which is one of the
// broker's classes, and the tools.
const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>com.github.mailtally</groupId>
  <artifactId>apache-kafka-image</artifactId>
  <version>0</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>%[1]s</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>%[1]s</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

// tag is the version of an image.
func tag(t *testing.T, image string) string {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		t.Fatal(err)
	}
	return ref.(reference.Tagged).Tag()
}

// environment is a service's, as NAME=value, with other addresses.
func environment(service types.ServiceConfig, elsewhere *strings.Replacer) []string {
	var list []string
	for name, value := range service.Environment {
		list = append(list, name+"="+elsewhere.Replace(*value))
	}
	return list
}

// composedKafka is the service kafka, of the image's version, without the image.
type composedKafka struct {
	*process
	inside, host string   // its two listeners
	java         []string // how to run one of its classes
	service      types.ServiceConfig
}

// startComposedKafka gives the service's environment to what the image starts with,
// which writes the configuration and formats the data, and runs the broker.
func startComposedKafka(t *testing.T, service types.ServiceConfig) *composedKafka {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // the first time they are fetched
	defer cancel()
	version := tag(t, service.Image)
	program, err := apachekafka.Java(ctx)
	if err != nil {
		t.Fatal(err)
	}
	jars, err := apachekafka.Jars(ctx, "apache-kafka-image-"+version, fmt.Appendf(nil, kafkaPOM, version), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := &composedKafka{inside: freeAddr(t), host: freeAddr(t), service: service,
		java: []string{program, "-Djava.io.tmpdir=" + dir, "-cp", filepath.Join(jars, "*")}}
	data := filepath.Join(dir, "data")
	environ := environment(service, strings.NewReplacer(
		"PLAINTEXT://:9092", "PLAINTEXT://"+k.inside, "kafka:9092", k.inside,
		"HOST://:19092", "HOST://"+k.host, "127.0.0.1:9092", k.host,
		"localhost:9093", freeAddr(t), "/var/lib/kafka/data", data))
	for _, folder := range []string{"defaults", "mounted", "config"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	setup := exec.Command(k.java[0], append(k.java[1:], "kafka.docker.KafkaDockerWrapper", "setup", "--default-configs-dir", filepath.Join(dir, "defaults"),
		"--mounted-configs-dir", filepath.Join(dir, "mounted"), "--final-configs-dir", filepath.Join(dir, "config"))...)
	setup.Env = environ
	if err := child.Run(ctx, setup); err != nil {
		t.Fatal(err)
	}
	if !exists(filepath.Join(data, "meta.properties")) {
		t.Fatalf("its data is not in %s, where the volume is", "/var/lib/kafka/data")
	}
	heap := strings.Fields(*service.Environment["KAFKA_HEAP_OPTS"])
	k.process = start(t, environ, program, append(append(heap, k.java[1:]...), "kafka.Kafka", filepath.Join(dir, "config", "server.properties"))...)
	return k
}

// health runs the service's health check: the script starts this class.
func (k *composedKafka) health(t *testing.T) error {
	t.Helper()
	const script = "/opt/kafka/bin/kafka-broker-api-versions.sh"
	test := k.service.HealthCheck.Test
	if len(test) != 2 || test[0] != "CMD-SHELL" || !strings.Contains(test[1], script) {
		t.Fatalf("health check %q, want one with %s", test, script)
	}
	class := "'" + strings.Join(k.java, "' '") + "' org.apache.kafka.tools.BrokerApiVersionsCommand"
	line := strings.NewReplacer(script, class, "localhost:9092", k.inside).Replace(test[1])
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return child.Run(ctx, exec.CommandContext(ctx, "/bin/sh", "-c", line))
}

// checkSettings compares what the broker goes by with what the service sets: a
// misspelt name would be ignored.
func (k *composedKafka) checkSettings(t *testing.T) {
	t.Helper()
	for name, addr := range map[string]string{"in the network": k.inside, "on the host": k.host} {
		client, err := kgo.NewClient(kgo.SeedBrokers(addr))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		metadata, err := kadm.NewClient(client).BrokerMetadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s:%d", metadata.Brokers[0].Host, metadata.Brokers[0].Port); got != addr {
			t.Errorf("who connects %s to %s is sent to %s", name, addr, got)
		}
		if metadata.Cluster != *k.service.Environment["CLUSTER_ID"] {
			t.Errorf("cluster %q", metadata.Cluster)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.inside))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	all, err := kadm.NewClient(client).DescribeBrokerConfigs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	described, err := all.On("1", nil)
	if err != nil {
		t.Fatal(err)
	}
	effective := make(map[string]string)
	for _, config := range described.Configs {
		effective[config.Key] = config.MaybeValue()
	}
	for name, value := range k.service.Environment {
		setting, isOne := strings.CutPrefix(name, "KAFKA_")
		if !isOne || name == "KAFKA_HEAP_OPTS" { // the scripts' own
			continue
		}
		setting = strings.ReplaceAll(strings.ToLower(setting), "_", ".")
		got, known := effective[setting]
		// The addresses are others here.
		if !known || got != *value && !strings.Contains(*value, ":9") && setting != "log.dirs" {
			t.Errorf("%s: Kafka has %s=%q (known: %t), want %q", name, setting, got, known, *value)
		}
	}
}
