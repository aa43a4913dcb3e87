package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/mailtally/mailtally/internal/simulate"
)

const (
	// webhookPath is where a producer takes Resend's webhooks.
	webhookPath = "/webhooks/resend"
	// webhookPartitions is mailtally's default.
	webhookPartitions = 12
)

// webhookSecret is the benchmark's own; anybody may know it.
var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of the benchmark's own"))

// gateway is a running mailtally producer.
type gateway struct {
	*process
	addr, admin string // host:port
}

// gateway starts a producer, which writes to these topics.
func (b *bench) gateway(ctx context.Context, t *topics) (*gateway, error) {
	program, err := b.mailtally(ctx)
	if err != nil {
		return nil, err
	}
	g := &gateway{}
	for _, addr := range []*string{&g.addr, &g.admin} {
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	g.process, err = b.start("producer", append(t.env(),
		"HTTP_ADDR="+g.addr, "ADMIN_ADDR="+g.admin, "RESEND_WEBHOOK_SECRETS="+webhookSecret), program, "producer")
	if err != nil {
		return nil, err
	}
	if err := g.ready(ctx, "http://"+g.admin+"/readyz"); err != nil {
		g.kill()
		return nil, err
	}
	return g, nil
}

// requests gives webhooks that are written and signed beforehand, sent in turn and
// then from the first again: a gateway does not mind. Their signatures are good
// for five minutes.
func (g *gateway) requests(n int, anew bool) (func(int, time.Time) []byte, error) {
	signer, err := simulate.NewSigner(webhookSecret)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	// One piece of memory, so that the collector has nothing to walk through.
	var all []byte
	ends := make([]int, 0, n)
	for _, e := range stream(n, now) {
		w := simulate.Webhook{ID: e.EventID, Body: resendBody(&e)}
		all = appendRequest(all, g.addr, webhookPath, signer.Header(w, now), w.Body, anew)
		ends = append(ends, len(all))
	}
	return func(i int, _ time.Time) []byte {
		start := 0
		if i %= n; i > 0 {
			start = ends[i-1]
		}
		return all[start:ends[i]]
	}, nil
}

// topics are a pair that only one run uses.
type topics struct {
	kafka            *kafka
	name, deadLetter string
	admin            *kadm.Client
}

// newTopics makes them, as migrate does.
func newTopics(ctx context.Context, k *kafka, name string) (*topics, error) {
	t := &topics{kafka: k, name: name, deadLetter: name + "." + deadLetterTopic, admin: kadm.NewClient(k.client)}
	return t, createTopics(ctx, k.client, webhookPartitions, t.name, t.deadLetter)
}

// env has a mailtally use them.
func (t *topics) env() []string { return kafkaEnv(t.kafka, t.name, t.deadLetter) }

// holds is nil if the topic holds so many records, and the other none: each
// webhook that was answered 2xx is in Kafka, once. Those of the sent ones that
// were answered otherwise, or not at all, may be there too.
func (t *topics) holds(ctx context.Context, accepted, sent int) error {
	ends, err := t.admin.ListEndOffsets(ctx, t.name, t.deadLetter)
	if err != nil {
		return err
	}
	got := map[string]int{t.name: 0, t.deadLetter: 0}
	ends.Each(func(o kadm.ListedOffset) {
		err = errors.Join(err, o.Err)
		got[o.Topic] += int(o.Offset)
	})
	if err != nil {
		return err
	}
	if n := got[t.name]; n < accepted || n > sent || got[t.deadLetter] > 0 {
		return fmt.Errorf("topics hold %v records after %d webhooks, of which %d were accepted", got, sent, accepted)
	}
	return nil
}

// drop deletes them.
func (t *topics) drop(ctx context.Context) error {
	_, err := t.admin.DeleteTopics(ctx, t.name, t.deadLetter)
	return err
}
