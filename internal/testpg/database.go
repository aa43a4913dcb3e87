package testpg

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mailtally/mailtally/internal/localpg"
)

// template is a database that is prepared once and then only copied.
type template struct {
	once sync.Once
	err  error
}

// New returns the URL of a new database, which belongs to the test and is dropped when
// the test ends, even if somebody is still connected to it. It is safe for parallel
// tests.
//
// prepare fills the template with that name, for example with the schema, the first
// time that a test of this process asks for it: a name stands for one prepare. A nil
// prepare leaves it empty.
func New(t testing.TB, name string, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	pg, err := shared.start()
	if err != nil {
		t.Fatalf("testpg: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sqlTimeout)
	defer cancel()

	tmpl, database := shared.names(name)
	tmpl.once.Do(func() {
		// Not this test's context: the others depend on it too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sqlTimeout)
		defer cancel()
		tmpl.err = makeTemplate(ctx, pg, templateName(name), prepare)
	})
	if tmpl.err != nil {
		t.Fatalf("testpg: make the template %q: %v", name, tmpl.err)
	}
	if err := exec(ctx, pg, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", quote(database), quote(templateName(name)))); err != nil {
		t.Fatalf("testpg: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
		defer cancel()
		if err := exec(ctx, pg, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", quote(database))); err != nil {
			t.Errorf("testpg: %v", err)
		}
	})
	return pg.URL(database)
}

// names returns the template with that name and a name for a new database.
func (s *server) names(name string) (*template, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tmpl := s.templates[name]
	if tmpl == nil {
		if s.templates == nil {
			s.templates = make(map[string]*template)
		}
		tmpl = new(template)
		s.templates[name] = tmpl
	}
	s.databases++
	return tmpl, fmt.Sprintf("test_%d", s.databases)
}

// makeTemplate creates the database, prepares it, and closes it to connections:
// PostgreSQL does not copy a database while somebody is connected to it.
func makeTemplate(ctx context.Context, pg *localpg.Server, name string, prepare func(context.Context, string) error) error {
	if err := exec(ctx, pg, "CREATE DATABASE "+quote(name)); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(ctx, pg.URL(name)); err != nil {
			return err
		}
	}
	return exec(ctx, pg,
		fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS false", quote(name)),
		// Connections that prepare has closed may take a moment to end, and those that
		// it forgot to close would block every test. The only databases that accept no
		// connections are finished templates.
		"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity JOIN pg_database USING (datname) WHERE NOT datallowconn",
	)
}

func templateName(name string) string { return "template_" + name }

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }
