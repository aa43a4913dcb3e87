package tracking

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// unknownEvents asks of each event whether its email's row has counted it. All
// events of a crowded email come back: email_event_seen decides on those.
//
// The LIMIT keeps the planner from turning the look-ups into a join: with a
// table's statistics missing or old it might hash the whole table.
const unknownEvents = `
SELECT d.n, e.crowded, cardinality(e.seen)
  FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS d(email_id, event_hash, n),
       LATERAL (SELECT crowded, seen FROM mailtally.email WHERE id = d.email_id LIMIT 1) AS e
 WHERE e.crowded OR d.event_hash <> ALL (e.seen)
 ORDER BY d.n`

// moveSeen makes emails crowded: their hashes go from the row to the table. The
// row is emptied by the upsert that follows in the same transaction.
const moveSeen = `
INSERT INTO mailtally.email_event_seen (email_id, event_hash)
SELECT d.email_id, unnest(e.seen)
  FROM unnest($1::uuid[]) AS d(email_id),
       LATERAL (SELECT seen FROM mailtally.email WHERE id = d.email_id LIMIT 1) AS e`

// insertSeen finds out which events of crowded emails are new, by making them
// known.
const insertSeen = `
INSERT INTO mailtally.email_event_seen (email_id, event_hash)
SELECT * FROM unnest($1::uuid[], $2::bigint[])
    ON CONFLICT DO NOTHING
RETURNING email_id, event_hash`

// missingEvents tells whether any event is counted neither in its row nor in
// email_event_seen.
const missingEvents = `
SELECT EXISTS (
       SELECT FROM unnest($1::uuid[], $2::bigint[]) AS d(email_id, event_hash)
        WHERE NOT EXISTS (SELECT FROM mailtally.email WHERE id = d.email_id AND seen @> ARRAY[d.event_hash] LIMIT 1)
          AND NOT EXISTS (SELECT FROM mailtally.email_event_seen s
                           WHERE s.email_id = d.email_id AND s.event_hash = d.event_hash LIMIT 1))`

// unknown gives deltas of those of keys that are new. The keys are sorted, their
// rows exist and are locked by this transaction, and one whose row would hold
// too many hashes becomes crowded here.
func (b *batch) unknown(ctx context.Context, keys []key) ([]delta, error) {
	var pipeline pgconn.Batch
	pipeline.ExecParams(unknownEvents, keyParams(keys), nil, binaryFormat, binaryFormat)
	results, err := b.roundTrip(ctx, &pipeline)
	if err != nil {
		return nil, fmt.Errorf("look up %d events: %w", len(keys), err)
	}

	var roomy, crowded []key
	var turning []uuid.UUID // emails that become crowded
	for rows := results[0].Rows; len(rows) > 0; {
		first := keyOf(rows[0], keys)
		n := 1
		for n < len(rows) && keyOf(rows[n], keys).email == first.email {
			n++
		}
		isCrowded, held := rows[0][1][0] != 0, int(binary.BigEndian.Uint32(rows[0][2]))
		into := &roomy
		if isCrowded || held+n > b.limit {
			into = &crowded
			if !isCrowded {
				turning = append(turning, first.email)
			}
		}
		for _, row := range rows[:n] {
			*into = append(*into, keyOf(row, keys))
		}
		rows = rows[n:]
	}

	fresh := deltas(roomy, b.events)
	if len(crowded) == 0 {
		return fresh, nil
	}
	crowded, err = b.insertSeen(ctx, turning, crowded)
	if err != nil {
		return nil, fmt.Errorf("look up %d events of crowded emails: %w", len(crowded), err)
	}
	for _, d := range deltas(crowded, b.events) {
		d.crowded = true
		fresh = append(fresh, d)
	}
	return fresh, nil
}

// insertSeen gives those of keys, which are sorted and whose emails are crowded
// or turning so, that are new.
func (b *batch) insertSeen(ctx context.Context, turning []uuid.UUID, keys []key) ([]key, error) {
	var pipeline pgconn.Batch
	if len(turning) > 0 {
		ids := newArray(oidUUID, len(turning), 16)
		for _, id := range turning {
			ids.uuid(id)
		}
		pipeline.ExecParams(moveSeen, [][]byte{ids.bytes()}, nil, binaryFormat, nil)
	}
	pipeline.ExecParams(insertSeen, keyParams(keys), nil, binaryFormat, binaryFormat)
	results, err := b.roundTrip(ctx, &pipeline)
	if err != nil {
		return nil, err
	}

	type seen struct {
		email uuid.UUID
		hash  int64
	}
	rows := results[len(results)-1].Rows
	inserted := make(map[seen]bool, len(rows))
	for _, row := range rows {
		inserted[seen{uuid.UUID(row[0]), int64(binary.BigEndian.Uint64(row[1]))}] = true
	}
	fresh := make([]key, 0, len(rows))
	for _, k := range keys {
		if inserted[seen{k.email, k.hash}] {
			fresh = append(fresh, k)
		}
	}
	return fresh, nil
}

// keyOf is the key that a row of unknownEvents is about.
func keyOf(row [][]byte, keys []key) key {
	return keys[binary.BigEndian.Uint64(row[0])-1] // ordinality counts from 1
}

func keyParams(keys []key) [][]byte {
	emails, hashes := newArray(oidUUID, len(keys), 16), newArray(oidInt8, len(keys), 8)
	for _, k := range keys {
		emails.uuid(k.email)
		hashes.int8(k.hash)
	}
	return [][]byte{emails.bytes(), hashes.bytes()}
}
