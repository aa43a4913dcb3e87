package baseline

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// Way is a way to count events, one at a time.
type Way struct {
	Name string
	// Apply counts e. It is called by many goroutines at once, more than once for
	// the same event, and in any order.
	Apply func(ctx context.Context, pool *pgxpool.Pool, e tracking.Event) error
}

// Ways lists the four.
func Ways() []Way {
	return []Way{
		{"read-modify-write", ReadModifyWrite{}.Apply},
		{"conditional-update", ConditionalUpdate},
		{"advisory-lock", AdvisoryLock},
		{"serializable", Serializable},
	}
}

// The table has the columns of the view mailtally.email_history, and the ids of the
// events counted. Both link_clicks and event_ids grow with the email, and PostgreSQL
// writes a changed row as a whole: so the cost of an event grows with the number of
// events that its email has.
const createTable = `
CREATE SCHEMA IF NOT EXISTS baseline;
CREATE TABLE IF NOT EXISTS baseline.email_history (
    id                  uuid PRIMARY KEY,
    scheduled_at        timestamptz,
    sent_at             timestamptz,
    delivered_at        timestamptz,
    delivery_delayed_at timestamptz,
    opened_at           timestamptz,
    clicked_at          timestamptz,
    bounced_at          timestamptz,
    complained_at       timestamptz,
    failed_at           timestamptz,
    suppressed_at       timestamptz,
    open_count          integer NOT NULL DEFAULT 0,
    click_count         integer NOT NULL DEFAULT 0,
    link_clicks         jsonb   NOT NULL DEFAULT '{"clicks": [], "totalClicks": 0}',
    event_ids           text[]  NOT NULL DEFAULT '{}'
)`

// Migrate makes the table that the ways write.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, createTable); err != nil {
		return fmt.Errorf("baseline: create table email_history: %w", err)
	}
	return nil
}
