package tracking_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// Every statement of the write path, and an application's read of an email, looks rows
// up by their whole key, however large the tables are and whatever the planner knows of
// them: nothing scans a whole table, or all hashes of an email.
func TestPlans_EveryRowIsLookedUpByItsKey(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	exec := func(sql ...string) {
		t.Helper()
		for _, sql := range sql {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	// Only this test makes statistics.
	partition := "email_event_" + time.Now().UTC().Format("2006_01")
	for _, table := range []string{"email", "email_event_seen", partition} {
		exec("ALTER TABLE mailtally." + table + " SET (autovacuum_enabled = false)")
	}
	keys := map[string][]string{"email": {"id"}, "email_event_seen": {"email_id", "event_hash"}}
	const analyze = "ANALYZE mailtally.email, mailtally.email_event_seen, mailtally.email_event"
	for _, state := range []struct {
		name string
		make []string
	}{
		{"new tables", nil},
		{"small tables", []string{fill(1, 40), analyze}},
		{"large tables with the statistics of small ones", []string{fill(41, 200_000)}},
		{"large tables", []string{analyze}},
		{"large tables without statistics", []string{"DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'mailtally.%'"}},
	} {
		exec(state.make...)
		for _, n := range []int{1, 5000} {
			events := make([]tracking.Event, n)
			for i := range events {
				// The emails made by fill, with two events each.
				var id uuid.UUID
				copy(id[:], fmt.Sprintf("%016d", i/2+1))
				events[i] = event(id, tracking.Opened, i)
			}
			for _, s := range tracking.WritePath(events) {
				keys := keys
				if s.Name == "forgetSeen" { // all hashes of an email
					keys = map[string][]string{"email_event_seen": {"email_id"}}
				}
				t.Run(fmt.Sprintf("%s/%s of %d", state.name, s.Name, n), func(t *testing.T) {
					checkPlan(t, explain(t.Context(), t, conn, new(tracking.Store).Settings(), s.SQL, s.Params), keys)
				})
			}
		}
		if state.name == "small tables" {
			continue // tables of a page or two: an application's query may well scan them
		}
		t.Run(state.name+"/email_history by id", func(t *testing.T) {
			id := uuid.New()
			checkPlan(t, explain(t.Context(), t, conn, "", "SELECT * FROM mailtally.email_history WHERE id = $1::uuid", [][]byte{id[:]}), map[string][]string{"email": {"id"}, partition: {"email_id"}})
		})
	}
}

// fill makes emails, each with clicks, and hashes in both places; the first email has a
// third of all hashes in email_event_seen.
func fill(from, to int) string {
	return fmt.Sprintf(`
		WITH ids AS (SELECT n, encode(lpad(n::text, 16, '0')::bytea, 'hex')::uuid AS id FROM generate_series(%[1]d, %[2]d) AS n),
		     emails AS (INSERT INTO mailtally.email (id, open_count, click_count, seen, moved_by)
		                SELECT id, 1, 1, ARRAY[n, n + 1], CASE WHEN n %% 100 = 1 THEN '1'::xid8 END FROM ids),
		     moved AS (INSERT INTO mailtally.email_event_seen
		               SELECT CASE WHEN k = 1 THEN encode(lpad('1', 16, '0')::bytea, 'hex')::uuid ELSE id END, n * 100 + k
		                 FROM ids, generate_series(1, 3) AS k WHERE n %% 2 = 1)
		INSERT INTO mailtally.email_event (email_id, occurred_at, type, event_id)
		SELECT id, now(), 'clicked', n FROM ids`, from, to)
}

// plan is a node of EXPLAIN (FORMAT JSON).
type plan struct {
	NodeType     string   `json:"Node Type"`
	RelationName string   `json:"Relation Name"`
	IndexCond    string   `json:"Index Cond"`
	RecheckCond  string   `json:"Recheck Cond"`
	Filter       string   `json:"Filter"`
	Arbiter      []string `json:"Conflict Arbiter Indexes"`
	Plans        []plan   `json:"Plans"`
}

func explain(ctx context.Context, t *testing.T, conn *pgxpool.Conn, settings, sql string, params [][]byte) (text string) {
	t.Helper()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, settings); err != nil {
		t.Fatal(err)
	}
	r := conn.Conn().PgConn().ExecParams(ctx, "EXPLAIN (FORMAT JSON) "+sql, params, nil, []int16{1}, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return string(r.Rows[0][0])
}

// checkPlan fails if a table is read other than by conditions on all columns of its
// key.
func checkPlan(t *testing.T, text string, keys map[string][]string) {
	t.Helper()
	var root []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &root); err != nil || len(root) != 1 {
		t.Fatalf("EXPLAIN gives %s: %v", text, err)
	}
	var check func(p plan)
	check = func(p plan) {
		switch p.NodeType {
		case "Hash Join", "Merge Join":
			t.Errorf("a %s", p.NodeType)
		case "ModifyTable":
			if p.RelationName == "email" && !slices.Equal(p.Arbiter, []string{"email_pkey"}) {
				t.Errorf("conflicts are found by %v, want by email_pkey", p.Arbiter)
			}
		default:
			for _, column := range keys[p.RelationName] {
				// In a bitmap scan, the node that names the table has the condition as
				// its recheck.
				if !strings.Contains(p.IndexCond+p.RecheckCond, column+" = ") {
					t.Errorf("%s on %s does not look up by %s", p.NodeType, p.RelationName, column)
				}
			}
		}
		for _, child := range p.Plans {
			check(child)
		}
	}
	check(root[0].Plan)
	if t.Failed() {
		t.Log(text)
	}
}
