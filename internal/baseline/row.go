package baseline

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailtally/mailtally/tracking"
)

// row is an email's row while a program holds a copy of it.
type row struct {
	first      [tracking.Suppressed + 1]*time.Time // by type
	openCount  int
	clickCount int
	linkClicks linkClicks
	eventIDs   []string
}

type linkClicks struct {
	Clicks      []click `json:"clicks"` // in the order of arrival
	TotalClicks int     `json:"totalClicks"`
}

type click struct {
	Link      string     `json:"link"`
	Timestamp time.Time  `json:"timestamp"`
	IPAddress netip.Addr `json:"ipAddress,omitzero"`
	UserAgent string     `json:"userAgent"`
}

func newClick(e tracking.Event) click {
	return click{Link: e.Link, Timestamp: e.OccurredAt, IPAddress: e.IP, UserAgent: e.UserAgent}
}

// count adds e to the copy, and returns false if it was there already. The first time
// is the earliest, for late arrivals' sake. Often one sees "if openedAt == nil"
// instead, which takes the first to arrive for the first to have happened.
func (r *row) count(e tracking.Event) bool {
	if slices.Contains(r.eventIDs, e.EventID) {
		return false
	}
	r.eventIDs = append(r.eventIDs, e.EventID)
	if first := r.first[e.Type]; first == nil || e.OccurredAt.Before(*first) {
		r.first[e.Type] = &e.OccurredAt
	}
	switch e.Type {
	case tracking.Opened:
		r.openCount++
	case tracking.Clicked:
		r.clickCount++
		r.linkClicks.Clicks = append(r.linkClicks.Clicks, newClick(e))
		r.linkClicks.TotalClicks = r.clickCount
	}
	return true
}

// fields are pointers to the columns' fields, to scan into and to write from.
func (r *row) fields() []any {
	var fields []any
	for _, t := range tracking.Types() {
		fields = append(fields, &r.first[t])
	}
	return append(fields, &r.openCount, &r.clickCount, &r.linkClicks, &r.eventIDs)
}

const columns = `scheduled_at, sent_at, delivered_at, delivery_delayed_at, opened_at, clicked_at, bounced_at,
       complained_at, failed_at, suppressed_at, open_count, click_count, link_clicks, event_ids`

const selectRow = `SELECT ` + columns + ` FROM baseline.email_history WHERE id = $1`

const saveRow = `
INSERT INTO baseline.email_history (id, ` + columns + `)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    ON CONFLICT (id) DO UPDATE
   SET (` + columns + `) =
       ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`

// database is a pool or a transaction.
type database interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// read gives a copy of the email's row, or an empty one if it has none.
func read(ctx context.Context, db database, email uuid.UUID) (row, error) {
	r := row{linkClicks: linkClicks{Clicks: []click{}}, eventIDs: []string{}}
	err := db.QueryRow(ctx, selectRow, email).Scan(r.fields()...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return row{}, fmt.Errorf("baseline: read email %s: %w", email, err)
	}
	return r, nil
}

// write makes the email's row equal to the copy.
func write(ctx context.Context, db database, email uuid.UUID, r row) error {
	if _, err := db.Exec(ctx, saveRow, append([]any{email}, r.fields()...)...); err != nil {
		return fmt.Errorf("baseline: write email %s: %w", email, err)
	}
	return nil
}
