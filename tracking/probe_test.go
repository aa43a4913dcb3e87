package tracking_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailtally/mailtally/tracking"
)

// raise adds a trigger that raises a SQLSTATE where a condition holds.
func raise(t testing.TB, pool *pgxpool.Pool, state, trigger, condition string) {
	t.Helper()
	exec(t, pool, "CREATE OR REPLACE FUNCTION mailtally.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+
		"IF "+condition+" THEN RAISE EXCEPTION 'raised' USING ERRCODE = '"+state+"'; END IF; RETURN NEW; END $$",
		"CREATE "+trigger+" EXECUTE FUNCTION mailtally.raise()")
}

// blamed says whom the error of a lone event blames.
func blamed(err error) string {
	var refused *tracking.RefusedError
	var held *tracking.HeldUpError
	switch {
	case err == nil:
		return "nobody"
	case errors.As(err, &refused):
		return "the event, for good"
	case errors.As(err, &held):
		return "the event, for now"
	}
	return "the database"
}

// A database that accepts no event, or none of a month, is never a reason to refuse one,
// whatever SQLSTATE it gives: a server that protects itself from transaction ids that wrap
// around gives that of a row that is too big.
func TestI4_IllDatabaseRefusesNoEvent(t *testing.T) {
	t.Parallel()
	for name, trigger := range map[string]string{
		"each statement on the tally":   "TRIGGER ill BEFORE INSERT ON mailtally.email FOR EACH STATEMENT",
		"each statement on the history": "TRIGGER ill BEFORE INSERT ON mailtally.email_event FOR EACH STATEMENT",
		"each row of the history":       "TRIGGER ill BEFORE INSERT ON mailtally.email_event FOR EACH ROW",
		"each row of a month":           "TRIGGER ill BEFORE INSERT ON mailtally.email_event_default FOR EACH ROW",
		"each commit":                   "CONSTRAINT TRIGGER ill AFTER INSERT ON mailtally.email DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			store := &tracking.Store{Pool: pool}
			lone := event(uuid.New(), tracking.Clicked, 0)
			raise(t, pool, "54000", trigger, "true")
			for _, state := range []string{"54000", "22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "23514", "23505", "P0001"} {
				exec(t, pool, "CREATE OR REPLACE FUNCTION mailtally.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '"+state+"'; END $$")
				if _, err := store.Apply(t.Context(), []tracking.Event{lone}); blamed(err) != "the database" {
					t.Errorf("%s blames %s: %v", state, blamed(err), err)
				}
			}
			exec(t, pool, "DROP FUNCTION mailtally.raise CASCADE")
			apply(t.Context(), t, store, lone)
			compare(t.Context(), t, pool, []tracking.Event{lone})
		})
	}
}

// An event is blamed if PostgreSQL does not accept it while it accepts others: for good if
// that is because of its content.
func TestApply_BlamesTheEventAlone(t *testing.T) {
	t.Parallel()
	poison := event(uuid.New(), tracking.Clicked, 0)
	poison.Link = "https://example.com/poison"
	const poisoned = "NEW.link LIKE '%poison'"
	const history = "TRIGGER ill BEFORE INSERT ON mailtally.email_event FOR EACH ROW"
	const deferred = "CONSTRAINT TRIGGER ill AFTER INSERT ON mailtally.email_event_default DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
	keepOut := func(which string) []string {
		return []string{"CREATE FUNCTION mailtally.keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN " + which + " THEN NULL ELSE NEW END; END $$",
			"CREATE TRIGGER keep_out BEFORE INSERT ON mailtally.email FOR EACH ROW EXECUTE FUNCTION mailtally.keep_out()"}
	}
	for name, test := range map[string]struct {
		raise, trigger string
		make           []string
		want           string
	}{
		"a trigger with a code of content": {raise: "22001", trigger: history, want: "the event, for good"},
		"a deferred trigger":               {raise: "22001", trigger: deferred, want: "the event, for good"},
		"a value that is too long for an index": {make: []string{
			"CREATE FUNCTION mailtally.long(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT string_agg(md5($1 || n), '') FROM generate_series(1, 400) n $$",
			"CREATE INDEX ON mailtally.email_event (mailtally.long(link)) WHERE link IS NOT NULL"}, want: "the event, for good"},
		"a check of content":               {make: []string{"ALTER TABLE mailtally.email_event ADD CHECK (link NOT LIKE '%poison')"}, want: "the event, for good"},
		"a check of types":                 {make: []string{"ALTER TABLE mailtally.email_event ADD CHECK (type <> 'clicked')"}, want: "the event, for good"},
		"a check that content is there":    {make: []string{"ALTER TABLE mailtally.email_event ADD CHECK (user_agent IS NOT NULL)"}, want: "the event, for good"},
		"a trigger that keeps its row out": {make: keepOut("NEW.id = '" + poison.EmailID.String() + "'"), want: "the event, for good"},
		"a trigger without a code":         {raise: "P0001", trigger: history, want: "the event, for now"},
		"a trigger with the code of a key": {raise: "23505", trigger: history, want: "the event, for now"},
		"a trigger that keeps all out":     {make: keepOut("true"), want: "the database"},
		"a column that every row lacks":    {make: []string{"ALTER TABLE mailtally.email ADD COLUMN tenant text NOT NULL"}, want: "the database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			exec(t, pool, test.make...)
			if test.raise != "" {
				raise(t, pool, test.raise, test.trigger, poisoned)
			}
			_, err := (&tracking.Store{Pool: pool}).Apply(t.Context(), []tracking.Event{poison})
			if blamed(err) != test.want {
				t.Errorf("it blames %s, want %s: %v", blamed(err), test.want, err)
			}
			if rows := stored(t.Context(), t, pool); len(rows) != 0 {
				t.Errorf("%d rows are left of the try", len(rows))
			}
		})
	}
}

// Somebody holds an email's row, or everything: the wait is short, and whose fault it is
// is known.
func TestApply_LockedRow(t *testing.T) {
	t.Parallel()
	for lock, want := range map[string]string{
		"SELECT FROM mailtally.email FOR UPDATE":                 "the event, for now",
		"LOCK TABLE mailtally.email IN SHARE MODE":               "the database",
		"LOCK TABLE mailtally.email_event_default IN SHARE MODE": "the database",
	} {
		t.Run(lock, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			store := &tracking.Store{Pool: pool}
			email := uuid.New()
			apply(t.Context(), t, store, event(email, tracking.Opened, 0))
			holder, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := holder.Exec(t.Context(), lock); err != nil {
				t.Fatal(err)
			}
			_, err = store.Apply(t.Context(), []tracking.Event{event(email, tracking.Opened, 1)})
			if blamed(err) != want || tracking.RetryReason(err) != tracking.RetryTimeout {
				t.Errorf("it blames %s, want %s for a time-out: %v", blamed(err), want, err)
			}
			if err := holder.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			apply(t.Context(), t, store, event(email, tracking.Opened, 1))
			compare(t.Context(), t, pool, eventsOf(email, tracking.Opened, 0, 2))
		})
	}
}
