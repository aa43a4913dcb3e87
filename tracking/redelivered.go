package tracking

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// unknownEvents returns the events of locked rows that are counted neither in the row
// nor, for a crowded email, in email_event_seen. As in upsertEmails, the hashes of all
// emails are one flat array: a row is read once, however many hashes there are.
//
// The planner must look each hash up by its key: with missing or stale statistics it
// might hash the whole table. LIMIT keeps it from turning the first look-up into a join.
// A scalar subquery, unlike EXISTS, is always a look-up.
const unknownEvents = `
SELECT b.seen_from + d.n - 1 AS n, cardinality(e.seen)
  FROM (SELECT unnest($1::uuid[])    AS email_id,
               unnest($3::integer[]) AS seen_from,
               unnest($4::integer[]) AS seen_to) AS b,
       LATERAL (SELECT seen, moved_by FROM mailtally.email WHERE id = b.email_id LIMIT 1) AS e,
       LATERAL unnest(($2::bigint[])[b.seen_from:b.seen_to]) WITH ORDINALITY AS d(event_hash, n)
 WHERE d.event_hash <> ALL (e.seen)
   AND (e.moved_by IS NULL
        OR (SELECT s.event_hash FROM mailtally.email_event_seen s
             WHERE s.email_id = b.email_id AND s.event_hash = d.event_hash) IS NULL)
 ORDER BY n`

// moveSeen moves hashes from full rows to the table. The upsert that follows in the same
// transaction empties the rows.
const moveSeen = `
INSERT INTO mailtally.email_event_seen (email_id, event_hash)
SELECT d.email_id, unnest(e.seen)
  FROM unnest($1::uuid[]) AS d(email_id),
       LATERAL (SELECT seen FROM mailtally.email WHERE id = d.email_id LIMIT 1) AS e`

// insertSeen adds the new events of those emails to the table.
const insertSeen = `
INSERT INTO mailtally.email_event_seen (email_id, event_hash)
SELECT * FROM unnest($1::uuid[], $2::bigint[])`

// missingEvents tells whether any event is counted neither in its row nor in
// email_event_seen. It uses scalar subqueries: see unknownEvents.
const missingEvents = `
SELECT EXISTS (
       SELECT FROM unnest($1::uuid[], $2::bigint[]) AS d(email_id, event_hash)
        WHERE (SELECT d.event_hash = ANY (e.seen) FROM mailtally.email e WHERE e.id = d.email_id) IS NOT TRUE
          AND (SELECT s.event_hash FROM mailtally.email_event_seen s
                WHERE s.email_id = d.email_id AND s.event_hash = d.event_hash) IS NULL)`

// unknown returns deltas of the new events among keys. The keys are sorted, and their
// rows exist and are locked by this transaction. If a row has no room for its new events,
// their hashes and those that it holds move to email_event_seen. unknown adds the
// statements for that to p; they must run before the deltas are applied.
func (b *batch) unknown(ctx context.Context, keys []key, p *pipeline) ([]delta, error) {
	var fresh []key
	held := make(map[uuid.UUID]int) // hashes in the row
	var lookUp pipeline
	lookUp.add(unknownEvents, emailParams(keys), func(row [][]byte) {
		k := keys[binary.BigEndian.Uint64(row[0])-1] // SQL arrays start at 1
		fresh = append(fresh, k)
		held[k.email] = int(binary.BigEndian.Uint32(row[1]))
	})
	if err := lookUp.roundTrip(ctx, b.conn); err != nil {
		return nil, fmt.Errorf("look up %d events: %w", len(keys), err)
	}

	list := deltas(fresh, b.events)
	full := newArray(oidUUID, 0, 16)
	var moved []key
	for i := range list {
		if d := &list[i]; held[d.keys[0].email]+len(d.keys) > b.limit {
			d.moved = true
			full.uuid(d.keys[0].email)
			moved = append(moved, d.keys...)
		}
	}
	if len(moved) > 0 {
		p.add(moveSeen, [][]byte{full.bytes()}, nil)
		p.add(insertSeen, keyParams(moved), nil)
	}
	return list, nil
}

// emailParams are one id per email, the hashes of all, and each email's range in them.
func emailParams(keys []key) [][]byte {
	ids, hashes := newArray(oidUUID, 0, 16), newArray(oidInt8, len(keys), 8)
	from, to := newArray(oidInt4, 0, 4), newArray(oidInt4, 0, 4)
	for i, k := range keys {
		if i == 0 || k.email != keys[i-1].email {
			if i > 0 {
				to.int4(int32(i))
			}
			ids.uuid(k.email)
			from.int4(int32(i) + 1)
		}
		hashes.int8(k.hash)
	}
	to.int4(int32(len(keys)))
	return [][]byte{ids.bytes(), hashes.bytes(), from.bytes(), to.bytes()}
}

// keyParams are, for each event, its email's id and its hash.
func keyParams(keys []key) [][]byte {
	emails, hashes := newArray(oidUUID, len(keys), 16), newArray(oidInt8, len(keys), 8)
	for _, k := range keys {
		emails.uuid(k.email)
		hashes.int8(k.hash)
	}
	return [][]byte{emails.bytes(), hashes.bytes()}
}
