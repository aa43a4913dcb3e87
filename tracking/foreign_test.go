package tracking_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

func exec(t testing.TB, pool *pgxpool.Pool, sql ...string) {
	t.Helper()
	for _, sql := range sql {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// keepOut adds a trigger that keeps rows with an odd id out of a table, in silence.
func keepOut(t testing.TB, pool *pgxpool.Pool, when string) {
	t.Helper()
	exec(t, pool, `CREATE FUNCTION mailtally.keep_out() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF right(NEW.id::text, 1) = 'f' THEN RETURN NULL; END IF; RETURN NEW; END $$`,
		"CREATE TRIGGER keep_out BEFORE "+when+" ON mailtally.email FOR EACH ROW EXECUTE FUNCTION mailtally.keep_out()")
}

// idEndingIn is a random id whose last digit is as given.
func idEndingIn(digit byte) uuid.UUID {
	id := uuid.New()
	id[15] = id[15]&0xf0 | digit
	return id
}

// The row of a crowded email is deleted, or lost in a partial restore, and its hashes in
// email_event_seen are not: its events count again, all of them, as those of a new email.
func TestApply_CrowdedRowIsDeleted(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"DELETE":   "DELETE FROM mailtally.email",
		"TRUNCATE": "TRUNCATE mailtally.email",
		"partial restore, to before it was crowded": "UPDATE mailtally.email SET open_count = 1, opened_at = '2026-03-01T12:00:00Z', last_opened_at = opened_at, seen = seen[1:1], moved_by = NULL",
		"partial restore, to after it was crowded":  "UPDATE mailtally.email SET seen = (SELECT array_agg(event_hash) FROM (SELECT event_hash FROM mailtally.email_event_seen LIMIT 64) s)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			store := &tracking.Store{Pool: asConsumer(t, pool)}
			crowded, others := uuid.New(), eventsOf(uuid.New(), tracking.Opened, 0, 50)
			events := eventsOf(crowded, tracking.Opened, 0, 400)
			apply(t.Context(), t, store, events[:130]...)
			apply(t.Context(), t, store, events[130:200]...)
			exec(t, pool, lose)

			apply(t.Context(), t, store, append(events[:130:130], others...)...)
			for n := 130; n < 400; n += 45 {
				apply(t.Context(), t, store, events[n:n+45]...)
			}
			rows := stored(t.Context(), t, pool)
			if n := rows[others[0].EmailID].OpenCount; n != 50 {
				t.Errorf("the other email has %d opens, want 50", n)
			}
			if n := rows[crowded].OpenCount; (name == "DELETE" || name == "TRUNCATE") && n != 400 {
				t.Errorf("the email has %d opens, want all 400 counted again", n)
			}
			// From then on it counts as any other.
			if r := apply(t.Context(), t, store, events...); r.Applied.Sum() != 0 {
				t.Errorf("%d of its events count twice", r.Applied.Sum())
			}
		})
	}
}

// A row that somebody else's trigger keeps out is never taken for one that has counted
// its events: the error says so, nothing is committed, and the other rows can be applied.
func TestApply_RowsKeptOutByATrigger(t *testing.T) {
	t.Parallel()
	out, in := idEndingIn(0xf), idEndingIn(0xe)
	for name, test := range map[string]struct {
		when   string
		before []tracking.Event // the trigger came
		events []tracking.Event
	}{
		"a new email":                    {"INSERT", nil, eventsOf(out, tracking.Opened, 0, 1)},
		"a new, crowded email":           {"INSERT", nil, eventsOf(out, tracking.Opened, 0, 100)},
		"a known email":                  {"INSERT", eventsOf(out, tracking.Opened, 0, 1), eventsOf(out, tracking.Opened, 1, 2)},
		"a known email, with known ones": {"INSERT", eventsOf(out, tracking.Opened, 0, 2), eventsOf(out, tracking.Opened, 0, 3)},
		"an update":                      {"UPDATE", eventsOf(out, tracking.Opened, 0, 1), eventsOf(out, tracking.Opened, 1, 2)},
		"an update of a crowded email":   {"UPDATE", eventsOf(out, tracking.Opened, 0, 60), eventsOf(out, tracking.Opened, 60, 90)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			store := &tracking.Store{Pool: asConsumer(t, pool)}
			if len(test.before) > 0 {
				apply(t.Context(), t, store, test.before...)
			}
			keepOut(t, pool, test.when)
			r, err := store.Apply(t.Context(), append(test.events, event(in, tracking.Opened, 0)))
			if err == nil || !strings.Contains(err.Error(), out.String()) || !strings.Contains(err.Error(), "trigger") {
				t.Fatalf("result %+v, error %v; want one that names the email, and a trigger", r, err)
			}
			if r := apply(t.Context(), t, store, event(in, tracking.Opened, 0)); r.Applied.Sum() != 1 {
				t.Errorf("the other email: %+v, want it applied", r)
			}
			exec(t, pool, "DROP TRIGGER keep_out ON mailtally.email")
			all := append(test.before, test.events...)
			apply(t.Context(), t, store, all...)
			compare(t.Context(), t, pool, append(all, event(in, tracking.Opened, 0)))
		})
	}
}

// A trigger that changes what is written is found where it would make an event vanish.
func TestApply_RowsChangedByATrigger(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"the id":     "NEW.id := gen_random_uuid();",
		"the counts": "NEW.open_count := 0;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, "CREATE FUNCTION mailtally.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+change+" RETURN NEW; END $$",
				"CREATE TRIGGER change BEFORE INSERT ON mailtally.email FOR EACH ROW EXECUTE FUNCTION mailtally.change()")
			r, err := (&tracking.Store{Pool: asConsumer(t, pool)}).Apply(t.Context(), []tracking.Event{event(uuid.New(), tracking.Opened, 0)})
			if err == nil || !strings.Contains(err.Error(), "trigger") {
				t.Errorf("result %+v, error %v; want one that names a trigger", r, err)
			}
		})
	}
}

// Row level security that hides rows from mailtally's role would make events count twice,
// or vanish: PostgreSQL is told to refuse rather than to hide.
func TestApply_RowLevelSecurity(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"email", "email_event_seen", "email_event"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			owner := newPool(t)
			role := "writer_" + strings.ReplaceAll(uuid.NewString(), "-", "_")
			exec(t, owner, "CREATE ROLE "+role+" LOGIN PASSWORD 'x'",
				"GRANT USAGE ON SCHEMA mailtally TO "+role,
				"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mailtally TO "+role)
			t.Cleanup(func() { owner.Exec(t.Context(), "DROP OWNED BY "+role+"; DROP ROLE "+role) })
			config := owner.Config().Copy()
			config.ConnConfig.User, config.ConnConfig.Password = role, "x"
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			store := &tracking.Store{Pool: pool, SeenLimit: 3}
			events := eventsOf(uuid.New(), tracking.Opened, 0, 10)
			apply(t.Context(), t, store, events...)
			// Everything may be written, and nothing is seen.
			exec(t, owner, fmt.Sprintf("ALTER TABLE mailtally.%s ENABLE ROW LEVEL SECURITY", table),
				fmt.Sprintf("CREATE POLICY writes ON mailtally.%s FOR INSERT WITH CHECK (true)", table),
				fmt.Sprintf("CREATE POLICY sees ON mailtally.%s FOR SELECT USING (false)", table))
			r, err := store.Apply(t.Context(), events)
			if err == nil || tracking.RetryReason(err) != tracking.RetrySchema || !strings.Contains(err.Error(), fmt.Sprintf("row-level security policy for table %q", table)) {
				t.Errorf("result %+v, error %v; want one that names the policy's table", r, err)
			}
			exec(t, owner, fmt.Sprintf("ALTER ROLE %s BYPASSRLS", pgx.Identifier{role}.Sanitize()))
			if r := apply(t.Context(), t, store, events...); r.Duplicate.Sum() != 10 {
				t.Errorf("for a role that the policy is not for: %+v, want 10 duplicates", r)
			}
		})
	}
}
