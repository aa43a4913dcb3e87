package baseline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// An UPDATE locks the row and then looks at its newest version, in the WHERE as well as
// in the SET: nobody can interfere.
const (
	updateOpened = `
UPDATE baseline.email_history
   SET opened_at  = least(opened_at, $3),
       open_count = open_count + 1,
       event_ids  = event_ids || $2::text
 WHERE id = $1 AND $2 <> ALL (event_ids)`

	updateClicked = `
UPDATE baseline.email_history
   SET clicked_at  = least(clicked_at, $3),
       click_count = click_count + 1,
       link_clicks = jsonb_build_object('clicks', link_clicks->'clicks' || $4::jsonb, 'totalClicks', click_count + 1),
       event_ids   = event_ids || $2::text
 WHERE id = $1 AND $2 <> ALL (event_ids)`

	updateOther = `
UPDATE baseline.email_history
   SET %[1]s_at  = least(%[1]s_at, $3),
       event_ids = event_ids || $2::text
 WHERE id = $1 AND $2 <> ALL (event_ids)`

	insertEmail = `INSERT INTO baseline.email_history (id) VALUES ($1) ON CONFLICT DO NOTHING`
)

// ConditionalUpdate counts e by an UPDATE that does the arithmetic in the database, and
// changes nothing if the event was counted before. An INSERT before it makes sure that
// there is a row. Both are sent together and are one transaction.
//
// It is right, and the best of the four. Its costs are one transaction per event, with
// a commit to wait for, and the row: an array that an event is appended to is read,
// copied and logged as a whole, so that the thousandth click costs many times the
// first.
func ConditionalUpdate(ctx context.Context, pool *pgxpool.Pool, e tracking.Event) error {
	var batch pgx.Batch
	batch.Queue(insertEmail, e.EmailID)
	switch e.Type {
	case tracking.Opened:
		batch.Queue(updateOpened, e.EmailID, e.EventID, e.OccurredAt)
	case tracking.Clicked:
		batch.Queue(updateClicked, e.EmailID, e.EventID, e.OccurredAt, newClick(e))
	default: // of a closed set of names, so the statement is safe to build
		batch.Queue(fmt.Sprintf(updateOther, e.Type), e.EmailID, e.EventID, e.OccurredAt)
	}
	if err := pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("baseline: count event %q of email %s: %w", e.EventID, e.EmailID, err)
	}
	return nil
}
