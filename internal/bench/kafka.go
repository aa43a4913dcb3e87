package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/mailtally/mailtally/internal/bench/apachekafka"
)

// kafka is an Apache Kafka of the run's own.
type kafka struct {
	*apachekafka.Cluster
	client *kgo.Client // which is not measured
	dir    string
	log    *slog.Logger
}

// kafka starts brokers for a part.
func (b *bench) kafka(ctx context.Context, name string, brokers int) (*kafka, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // a download among it
	defer cancel()
	dir := filepath.Join(b.dir, "kafka-"+name)
	cluster, err := apachekafka.Start(ctx, apachekafka.Options{Dir: dir, Brokers: brokers, Log: b.log})
	if err != nil {
		return nil, err
	}
	b.report.Machine.version("Apache Kafka", apachekafka.Version)
	k := &kafka{Cluster: cluster, dir: dir, log: b.log}
	if k.client, err = kgo.NewClient(kgo.SeedBrokers(cluster.Addrs()...)); err != nil {
		k.stop()
		return nil, err
	}
	return k, nil
}

// stop ends the brokers, not kindly, and removes their data: nobody wants it, and
// the next part needs the room.
func (k *kafka) stop() {
	if k.client != nil {
		k.client.Close()
	}
	for i := range k.Pids() {
		k.Kill(i)
	}
	if err := os.RemoveAll(k.dir); err != nil {
		k.log.Error("a Kafka's data is left", "error", err)
	}
}

// cpu is the CPU time that all brokers have used.
func (k *kafka) cpu() (total time.Duration, err error) {
	for _, pid := range k.Pids() {
		used, err := cpu(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}
