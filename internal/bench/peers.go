package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

const peersText = `
Each program works a topic of 12 partitions off, alone, on the same broker and PostgreSQL and from empty tables: %s. These are the first so many of one piece from the middle of an arrival-ordered stream of 3.2 events an email, so that their mix is the same; they hold fewer repeats than its 2.8 %% where what is repeated came before. The rate counts from the first rows that are there to PostgreSQL's commit time stamp of the last (track_commit_timestamp is on); starting up is not in it. CPU time is that from there until nothing has been written for a second. %s %s

mailtally is one consumer with its defaults. Watermill is a router with a consumer group, whose handler decodes the same webhooks and does one conditional UPDATE a message, behind an INSERT … ON CONFLICT DO NOTHING; a partition's messages come one after the other, so 12 are under way at a time. Both tally, and tell repeats apart.

Kafka Connect, standalone, has Debezium's JDBC sink append rows to a table without any key. It does less: a sink cannot look into a webhook's body, so it gets a topic of flat records, which somebody else has made; it does not tell repeats apart; and it tallies nothing. It has worked off its topic %d times before it is measured, until its Java is compiled. Its settings are chosen for throughput, all else is as it comes: %s.

The kill tests run at the same time for all three.`

// peer is a program that is compared.
type peer struct {
	name       string
	deliveries []tracking.Event // in its topic
	own        bool             // mailtally, whose final rows must be right
	// start has it consume its topic, as a member of that group.
	start func(ctx context.Context, group string) (*process, error)
	// connect is a worker that has run for a while, where that makes it faster.
	connect *connectRunner
	// counted is SQL for the number of events that its tables hold, and events
	// what that is in the end, if nothing is lost.
	counted string
	events  int
	// table is where the last change of the rows is the last event's.
	table string
	// check says how its final rows compare with the deliveries.
	check func(context.Context, *pgxpool.Pool, *peer) (string, error)
}

// peers compares mailtally to what a team would otherwise write or run.
func peers(ctx context.Context, b *bench) error {
	db, err := b.postgres(ctx, "peers", map[string]string{"track_commit_timestamp": "on"})
	if err != nil {
		return err
	}
	defer db.stop()
	k, err := b.kafka(ctx, "peers", 1)
	if err != nil {
		return err
	}
	defer k.stop()
	all, err := b.allPeers(ctx, k, db.URL("bench"))
	if err != nil {
		return err
	}
	connect := all[2]
	if connect.connect, err = b.warmConnect(ctx, db, k, connect); err != nil {
		return fmt.Errorf("%s: %w", connect.name, err)
	}
	defer connect.connect.kill()

	rows := make([]row, len(all))
	notes := make([][]string, len(all))
	for round := range b.rounds {
		for i := range all {
			i = (i + round) % len(all)
			rows[i].Name = all[i].name
			note, err := b.drainPeer(ctx, db, k, all[i], fmt.Sprintf("peers-%d-%d", i, round), &rows[i])
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			notes[i] = append(notes[i], note)
		}
	}
	// What was measured is reported, whatever becomes of these.
	killed, failure := b.killPeers(ctx, db, all)
	var deliveries []string
	var bars []bar
	for i := range rows {
		r := &rows[i]
		rates := r.figure("rate", "").Values
		bars = append(bars, bar{name: r.Name, value: median(rates), own: i == 0})
		for j, rate := range rates {
			r.measured("mailtally does", "×", rows[0].figure("rate", "").Values[j]/rate)
		}
		r.Note = strings.Join(slices.Compact(notes[i]), "; ") + ". After a kill -9 half way and a restart: " + killed[i] + "."
		n := len(all[i].deliveries)
		repeats := 100 * (1 - float64(tallied(all[i].deliveries).Events)/float64(n))
		deliveries = append(deliveries, fmt.Sprintf("%s deliveries for %s (%.1f %% repeats)", number(float64(n)), all[i].name, repeats))
	}
	b.report.add(table{Part: "peers", Title: "what a team would otherwise write or run", Rows: rows, Text: fmt.Sprintf(peersText,
		strings.Join(deliveries, "; "), settingsText, kafkaText, warmUps, connectSettings())})
	b.report.chart("peers", "Deliveries a second, from Kafka to committed rows", bars)
	return failure
}

// allPeers fills the topics and builds the programs. mailtally comes first.
func (b *bench) allPeers(ctx context.Context, k *kafka, database string) ([]*peer, error) {
	ours, handled, connected := 500_000, 20_000, 200_000
	if b.full {
		ours, handled, connected = 3_000_000, 200_000, 1_500_000
	}
	watermill, err := b.watermill(ctx)
	if err != nil {
		return nil, err
	}
	deliveries := steady(ours, time.Now())
	const partitions = 12
	for topic, n := range map[string]int{"peers-mailtally": ours, "peers-watermill": handled} {
		if _, err := fill(ctx, k.client, topic, partitions, deliveries[:n]); err != nil {
			return nil, err
		}
	}
	if err := fillConnect(ctx, k.client, connectTopic, partitions, deliveries[:connected]); err != nil {
		return nil, err
	}
	return []*peer{
		{
			name: "mailtally, one consumer", deliveries: deliveries, own: true,
			start: func(ctx context.Context, group string) (*process, error) {
				m, err := b.startMember(ctx, group, database, kafkaEnv(k, "peers-mailtally", deadLetterTopic))
				if err != nil {
					return nil, err
				}
				return m.process, nil
			},
			counted: "SELECT count(*) FROM mailtally.email_event", events: tallied(deliveries).Events,
			table: "mailtally.email_event", check: checkTallies(ourTallies),
		},
		{
			name: "Watermill, one UPDATE a message", deliveries: deliveries[:handled],
			start: func(_ context.Context, group string) (*process, error) {
				// It is told by the same names.
				env := append(kafkaEnv(k, "peers-watermill", deadLetterTopic), "KAFKA_GROUP="+group, "DATABASE_URL="+database)
				return b.start("watermill", env, watermill)
			},
			counted: "SELECT coalesce(sum(cardinality(event_ids)), 0) FROM baseline.email_history", events: tallied(deliveries[:handled]).Events,
			table: "baseline.email_history", check: checkTallies(baselineTallies),
		},
		{
			name: "Kafka Connect, plain INSERT", deliveries: deliveries[:connected],
			start: func(ctx context.Context, group string) (*process, error) {
				c, err := b.startConnect(ctx, k, group, database)
				if err != nil {
					return nil, err
				}
				return c.process, nil
			},
			counted: "SELECT count(*) FROM public.connect_event", events: connected, // repeats among them
			table: "public.connect_event", check: checkConnect,
		},
	}, nil
}

// watermill builds the program in the folder of that name, and gives its path.
func (b *bench) watermill(ctx context.Context) (string, error) {
	path := filepath.Join(b.dir, "watermill")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/mailtally/mailtally/internal/bench/watermill")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build watermill: %w\n%s", err, out)
	}
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "github.com/ThreeDotsLabs/watermill").Output()
	if err != nil {
		return "", fmt.Errorf("find the version of watermill: %w", err)
	}
	b.report.Machine.version("Watermill", strings.TrimPrefix(strings.TrimSpace(string(version)), "v"))
	return path, nil
}

// exact is what a check says of rows that are what they should be.
const exact = "exact"

// checked says how p's final rows are.
func (b *bench) checked(ctx context.Context, pool *pgxpool.Pool, p *peer) (string, error) {
	note, err := p.check(ctx, pool, p)
	if err == nil && p.own && note != exact {
		b.wrong(fmt.Sprintf("peers, %s: %s", p.name, note))
	}
	return note, err
}

// checkTallies checks tables of tallies.
func checkTallies(sql string) func(context.Context, *pgxpool.Pool, *peer) (string, error) {
	return func(ctx context.Context, pool *pgxpool.Pool, p *peer) (string, error) {
		got, err := queryTallies(ctx, pool, sql)
		if err != nil {
			return "", err
		}
		if wrong := got.minus(tallied(p.deliveries)); wrong != (tallies{}) {
			return fmt.Sprintf("wrong by %+v", wrong), nil
		}
		return exact, nil
	}
}

// checkConnect checks the table of rows.
func checkConnect(ctx context.Context, pool *pgxpool.Pool, p *peer) (string, error) {
	rows, distinct, err := connectRows(ctx, pool)
	if err != nil {
		return "", err
	}
	events := tallied(p.deliveries).Events
	notes := []string{fmt.Sprintf("%s repeats are rows like others", number(float64(len(p.deliveries)-events)))}
	if lost := events - distinct; lost > 0 {
		notes = append(notes, number(float64(lost))+" events lost")
	}
	if again := rows - len(p.deliveries); again > 0 {
		notes = append(notes, number(float64(again))+" rows written twice")
	}
	return strings.Join(notes, ", "), nil
}
