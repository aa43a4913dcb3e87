package tracking

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// unknownEvents returns the events of locked rows that are counted neither in the row
// nor, for a crowded email, in email_event_seen; and those of rows that are not there. As
// in upsertEmails, the hashes of all emails are one flat array: a row is read once,
// however many hashes there are.
//
// The planner must look each hash up by its key: with missing or stale statistics it
// might hash the whole table. LIMIT keeps it from turning the first look-up into a join.
// A scalar subquery, unlike EXISTS, is always a look-up.
const unknownEvents = `
SELECT b.seen_from + d.n - 1 AS n, cardinality(e.seen), e.moved_by IS NULL
  FROM (SELECT unnest($1::uuid[])    AS email_id,
               unnest($3::integer[]) AS seen_from,
               unnest($4::integer[]) AS seen_to) AS b
       LEFT JOIN LATERAL (SELECT seen, moved_by FROM mailtally.email WHERE id = b.email_id LIMIT 1) AS e ON true,
       LATERAL unnest(($2::bigint[])[b.seen_from:b.seen_to]) WITH ORDINALITY AS d(event_hash, n)
 WHERE (d.event_hash = ANY (e.seen)) IS NOT TRUE
   AND (e.moved_by IS NULL
        OR (SELECT s.event_hash FROM mailtally.email_event_seen s
             WHERE s.email_id = b.email_id AND s.event_hash = d.event_hash) IS NULL)
 ORDER BY n`

// forgetSeen removes what email_event_seen has of emails whose rows never moved anything
// there: it is of earlier rows, which somebody has deleted or replaced by a backup's. The
// new row has counted none of it, and would take those events for counted from now on.
const forgetSeen = `DELETE FROM mailtally.email_event_seen WHERE email_id = ANY ($1::uuid[])`

// moveSeen moves hashes from full rows to the table. The upsert that follows in the same
// transaction empties the rows. In a partly restored database, the table may be newer than
// the row, and have some of them.
const moveSeen = `
INSERT INTO mailtally.email_event_seen (email_id, event_hash)
SELECT d.email_id, unnest(e.seen)
  FROM unnest($1::uuid[]) AS d(email_id),
       LATERAL (SELECT seen FROM mailtally.email WHERE id = d.email_id LIMIT 1) AS e
    ON CONFLICT DO NOTHING`

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
// rows are locked by this transaction; one that is not there was kept out, which is an
// error. If a row has no room for its new events, their hashes and those that it holds
// move to email_event_seen. unknown adds the statements for that to p; they must run
// before the deltas are applied.
func (b *batch) unknown(ctx context.Context, keys []key, p *pipeline) ([]delta, error) {
	var fresh []key
	type found struct {
		held     int  // hashes in the row
		crowding bool // none have been moved out of it yet
	}
	rows := make(map[uuid.UUID]found)
	var missing error
	var lookUp pipeline
	lookUp.add(unknownEvents, emailParams(keys), func(row [][]byte) {
		k := keys[binary.BigEndian.Uint64(row[0])-1] // SQL arrays start at 1
		if row[1] == nil {
			missing = notTaken(k.email)
			return
		}
		fresh = append(fresh, k)
		rows[k.email] = found{int(binary.BigEndian.Uint32(row[1])), row[2][0] != 0}
	})
	if err := cmp.Or(lookUp.roundTrip(ctx, b.conn), missing); err != nil {
		return nil, fmt.Errorf("look up %d events: %w", len(keys), err)
	}

	list := deltas(fresh, b.events)
	full, crowding := newArray(oidUUID, 0, 16), newArray(oidUUID, 0, 16)
	var moved []key
	for i := range list {
		d := &list[i]
		email := d.keys[0].email
		row := rows[email]
		if row.held+len(d.keys) <= b.limit {
			continue
		}
		d.moved = true
		full.uuid(email)
		moved = append(moved, d.keys...)
		if row.crowding {
			crowding.uuid(email)
		}
	}
	if len(moved) > 0 {
		if crowding.n > 0 {
			p.add(forgetSeen, [][]byte{crowding.bytes()}, nil)
		}
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
