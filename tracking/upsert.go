package tracking

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// upsertEmails is the guarantee. For each email: a row that does not exist is created. A
// row that has counted none of these events takes them. A row that has counted any of
// them, or that would hold too many hashes, stays unchanged and is not returned, but is
// locked by this transaction all the same (the chapter on INSERT: "all rows will be
// locked when the ON CONFLICT DO UPDATE action is taken, even those that do not satisfy
// the WHERE").
//
//   - The deltas come in id order, the order in which everyone locks rows, so that two
//     writers queue up and never deadlock. RETURNING returns them in the same order.
//   - The arrays are unnested side by side in a select list. A single unnest of all of
//     them, in FROM, creates a tuplestore per array and costs the server a fifth more.
//     Also, in the select list, an array that is NULL as a whole gives every row a NULL.
//   - The hashes of all emails come in one flat array ($3), since unnest would flatten an
//     array of arrays; each row takes its slice.
//   - && compares every hash with every other, which is faster than any index for so few.
//     The cardinality, tested first, keeps them few, and with them the row's length and
//     so the cost of its next version.
//   - least and greatest ignore NULLs: the first time is the least of those known.
//   - A delta without hashes is one whose hashes have been put into email_event_seen,
//     together with those that the row held until now.
//   - In the second pass ($2) there is nothing to test: the rows are locked, and the
//     events have already been found to be new.
//
// The test for an email with hashes in email_event_seen has two traps. First, WHERE sees
// the newest version of the row, even one committed while this statement waited for its
// lock, but sees email_event_seen as it was when the statement began. If hashes have been
// moved since, an event not found there may have been counted all the same. moved_by
// detects this: it is the last transaction that moved hashes, and a statement that sees
// that one sees all earlier ones. Second, each hash must be looked up by the whole key.
// With = ANY (excluded.seen) the planner may read all hashes of the email, perhaps a
// million; LIMIT keeps it from a join.
const upsertEmails = `
INSERT INTO mailtally.email AS e
       (id, seen, moved_by, open_count, click_count,
        scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
        bounced_at, complained_at, failed_at, suppressed_at, last_opened_at, last_clicked_at,
        provider_email_id)
SELECT id, ($3::bigint[])[seen_from:seen_to], CASE WHEN seen_to < seen_from THEN pg_current_xact_id() END,
       open_count, click_count,
       scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at,
       bounced_at, complained_at, failed_at, suppressed_at, last_opened_at, last_clicked_at,
       provider_email_id
  FROM (SELECT unnest($4::uuid[])         AS id,
               unnest($5::integer[])      AS seen_from,
               unnest($6::integer[])      AS seen_to,
               unnest($7::integer[])      AS open_count,
               unnest($8::integer[])      AS click_count,
               unnest($9::timestamptz[])  AS scheduled_at,
               unnest($10::timestamptz[]) AS sent_at,
               unnest($11::timestamptz[]) AS delivered_at,
               unnest($12::timestamptz[]) AS delivery_delayed_at,
               unnest($13::timestamptz[]) AS opened_at,
               unnest($14::timestamptz[]) AS clicked_at,
               unnest($15::timestamptz[]) AS bounced_at,
               unnest($16::timestamptz[]) AS complained_at,
               unnest($17::timestamptz[]) AS failed_at,
               unnest($18::timestamptz[]) AS suppressed_at,
               unnest($19::timestamptz[]) AS last_opened_at,
               unnest($20::timestamptz[]) AS last_clicked_at,
               unnest($21::text[])        AS provider_email_id) AS d
    ON CONFLICT (id) DO UPDATE
   SET seen                = CASE WHEN excluded.moved_by IS NULL THEN e.seen || excluded.seen ELSE '{}' END,
       moved_by            = coalesce(excluded.moved_by, e.moved_by),
       open_count          = e.open_count + excluded.open_count,
       click_count         = e.click_count + excluded.click_count,
       scheduled_at        = least(e.scheduled_at, excluded.scheduled_at),
       sent_at             = least(e.sent_at, excluded.sent_at),
       delivered_at        = least(e.delivered_at, excluded.delivered_at),
       delivery_delayed_at = least(e.delivery_delayed_at, excluded.delivery_delayed_at),
       opened_at           = least(e.opened_at, excluded.opened_at),
       clicked_at          = least(e.clicked_at, excluded.clicked_at),
       bounced_at          = least(e.bounced_at, excluded.bounced_at),
       complained_at       = least(e.complained_at, excluded.complained_at),
       failed_at           = least(e.failed_at, excluded.failed_at),
       suppressed_at       = least(e.suppressed_at, excluded.suppressed_at),
       last_opened_at      = greatest(e.last_opened_at, excluded.last_opened_at),
       last_clicked_at     = greatest(e.last_clicked_at, excluded.last_clicked_at),
       provider_email_id   = least(e.provider_email_id, excluded.provider_email_id)
 WHERE $2::boolean
    OR (cardinality(e.seen) + cardinality(excluded.seen) <= $1::integer
        AND NOT e.seen && excluded.seen
        AND (e.moved_by IS NULL
             OR (pg_visible_in_snapshot(e.moved_by, pg_current_snapshot())
                 AND NOT EXISTS (SELECT FROM unnest(excluded.seen) AS d(event_hash),
                                        LATERAL (SELECT FROM mailtally.email_event_seen s
                                                  WHERE s.email_id = e.id AND s.event_hash = d.event_hash
                                                  LIMIT 1) AS known))))
RETURNING id, open_count, click_count`

// upsert applies list, which is in id order, at the end of a pipeline, and returns the
// deltas that it did not apply. An email's first open is in this delta if the row's count
// equals the delta's own.
func (b *batch) upsert(ctx context.Context, p *pipeline, list []delta, checked bool) (unchanged []delta, err error) {
	next := 0
	p.add(upsertEmails, upsertParams(list, b.limit, checked), func(row [][]byte) {
		id := uuid.UUID(row[0])
		for next < len(list) && list[next].keys[0].email != id {
			unchanged = append(unchanged, list[next])
			next++
		}
		if next == len(list) { // a row of another email, or out of order
			err = notTaken(id)
			return
		}
		d := &list[next]
		next++
		opens, clicks := int32(binary.BigEndian.Uint32(row[1])), int32(binary.BigEndian.Uint32(row[2]))
		if opens < d.opens || clicks < d.clicks {
			err = notTaken(id)
		}
		for _, k := range d.keys {
			b.isNew[k.event] = true
		}
		if d.opens > 0 && opens == d.opens {
			b.firstOpens++
		}
		if d.clicks > 0 && clicks == d.clicks {
			b.firstClicks++
		}
	})
	failed := p.roundTrip(ctx, b.conn)
	if err = cmp.Or(failed, err); err != nil {
		return nil, fmt.Errorf("upsert %d emails: %w", len(list), err)
	}
	return append(unchanged, list[next:]...), nil
}

// upsertParams are in the order of the statement's: what concerns it as a whole, each
// row's id and hashes, then its columns, so that a new column comes last.
func upsertParams(list []delta, limit int, checked bool) [][]byte {
	hashes := 0
	for i := range list {
		hashes += len(list[i].keys)
	}
	seen := newArray(oidInt8, hashes, 8)
	ids := newArray(oidUUID, len(list), 16)
	from, to := newArray(oidInt4, len(list), 4), newArray(oidInt4, len(list), 4)
	opens, clicks := newArray(oidInt4, len(list), 4), newArray(oidInt4, len(list), 4)
	var times [12]arrayParam
	for i := range times {
		times[i] = newArray(oidTimestamptz, len(list), 8)
	}
	providerIDs := newArray(oidText, len(list), 0)

	for i := range list {
		d := &list[i]
		ids.uuid(d.keys[0].email)
		from.int4(int32(seen.n) + 1)
		if !d.moved {
			for _, k := range d.keys {
				seen.int8(k.hash)
			}
		}
		to.int4(int32(seen.n)) // if moved, to is before from: an empty slice
		opens.int4(d.opens)
		clicks.int4(d.clicks)
		for t := Scheduled; t < typeEnd; t++ {
			times[t-Scheduled].time(d.first[t])
		}
		times[10].time(d.lastOpen)
		times[11].time(d.lastClick)
		providerIDs.text(d.providerID)
	}

	params := make([][]byte, 0, 21)
	params = append(params, int4Param(int32(limit)), boolParam(checked), seen.bytes())
	params = append(params, ids.bytes(), from.bytes(), to.bytes(), opens.bytes(), clicks.bytes())
	for i := range times {
		params = append(params, times[i].bytes())
	}
	return append(params, providerIDs.bytes())
}
