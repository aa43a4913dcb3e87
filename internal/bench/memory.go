package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/mailtally/mailtally/tracking"
)

const memoryText = `
One member with its default settings works off a backlog of %s webhooks of 700 bytes, at full speed. The backlogs differ in how well they compress (zstd): so much of each body is random text, and the rest the same letter. A row is named by the bytes of the bodies by those that their topic takes on the broker's disk, keys and headers included. Ids count up, so that they compress too; an email is delivered, opened and clicked, a third of the stream apart. A member asks for as many bytes as unpack to what it has room for, judging by the batches that it has had: resident is its peak (VmHWM).

%s

%s %s`

// memory measures how much memory a member takes, however well its backlog compresses.
func memory(ctx context.Context, b *bench) error {
	n := pick(b, 500_000, 3_000_000)
	events := counting(n, time.Now())
	random := []int{480, 120, 48, 0} // characters of each body
	topics, rows := make([]*topic, len(random)), make([]row, len(random))
	for i := range random {
		var err error
		if topics[i], err = b.kafka.filled(ctx, fmt.Sprint("memory-", i), partitions, events, bodyWith(random[i])); err != nil {
			return err
		}
		onDisk, err := topics[i].bytes(ctx)
		if err != nil {
			return err
		}
		rows[i].name = number(float64(n*bodySize)/float64(onDisk)) + ":1"
	}
	if err := b.drain(ctx, topics[0], 1, &row{name: "warm-up"}); err != nil {
		return err
	}
	if err := b.interleave(rows, func(i int) error { return b.drain(ctx, topics[i], 1, &rows[i]) }); err != nil {
		return err
	}
	b.report.add("memory: a member's peak, by how its backlog is compressed", fmt.Sprintf(memoryText, count(n), timingText, settingsText, kafkaText), rows)
	return nil
}

// bytes is the size of the topic on the broker's disk.
func (t *topic) bytes(ctx context.Context) (n int64, err error) {
	dirs, err := t.kafka.admin.DescribeAllLogDirs(ctx, nil)
	dirs.Each(func(d kadm.DescribedLogDir) {
		for _, p := range d.Topics[t.name] {
			n += p.Size
		}
	})
	return n, err
}

// counting is n events whose ids count up.
func counting(n int, now time.Time) []tracking.Event {
	types := []tracking.Type{tracking.Delivered, tracking.Opened, tracking.Clicked}
	emails := (n + len(types) - 1) / len(types)
	at := now.UTC().Truncate(time.Minute).Add(-time.Hour)
	events := make([]tracking.Event, n)
	for i := range events {
		id := uuid.UUID{6: 4 << 4, 8: 2 << 6} // a version 4
		binary.BigEndian.PutUint32(id[12:], uint32(i%emails))
		events[i] = tracking.Event{EmailID: id, EventID: fmt.Sprintf("msg_%012d", i), Type: types[i/emails], OccurredAt: at}
	}
	return events
}

// bodySize is the bytes of a webhook's body in the part memory.
const bodySize = 700

// bodyWith makes webhook bodies of bodySize bytes with that many random characters.
func bodyWith(random int) func(*tracking.Event) []byte {
	const letters = "!#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~"
	rng := rand.New(rand.NewPCG(5, 6))
	return func(e *tracking.Event) []byte {
		at := e.OccurredAt.Format(time.RFC3339)
		b := make([]byte, 0, bodySize)
		b = fmt.Appendf(b, `{"type":"email.%s","created_at":"%s","data":{"email_id":"%s"`, e.Type, at, e.EmailID)
		switch e.Type {
		case tracking.Opened:
			b = fmt.Appendf(b, `,"open":{"timestamp":"%s"}`, at)
		case tracking.Clicked:
			b = fmt.Appendf(b, `,"click":{"timestamp":"%s","link":"https://www.example.com/"}`, at)
		}
		b = append(b, `,"subject":"`...)
		for range random {
			b = append(b, letters[rng.IntN(len(letters))])
		}
		b = append(b, strings.Repeat("x", bodySize-len(b)-len(`"}}`))...)
		return append(b, `"}}`...)
	}
}
