package tracking

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// MigrateTo migrates to an older version, as an older program would have.
func MigrateTo(ctx context.Context, pool *pgxpool.Pool, version int64) error {
	if version == 0 {
		return nil
	}
	return migrateTo(ctx, pool, version)
}

// NewestVersion is the number of migrations there are.
func NewestVersion(t testing.TB) int64 {
	files, err := migrations.ReadDir("migrations")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	return int64(len(files))
}

// SetTimeout replaces the most that a statement may take.
func (s *Store) SetTimeout(d time.Duration) { s.statementTimeout = d }

// Classify is classify.
var Classify = classify
