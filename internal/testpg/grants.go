package testpg

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/jackc/pgx/v5"
)

// Consumer and Reader are the roles of deploy/grants.sql.
const (
	Consumer = "mailtally_consumer"
	Reader   = "mailtally_reader"
)

// Grant gives the roles of deploy/grants.sql their rights in the database with that URL,
// whose schema is migrated, and creates a login for each: see [As].
func Grant(ctx context.Context, url string) error {
	_, here, _, _ := runtime.Caller(0)
	grants, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../deploy/grants.sql"))
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	shared.granting.Lock()
	defer shared.granting.Unlock()
	if _, err := conn.Exec(ctx, string(grants)); err != nil {
		return fmt.Errorf("deploy/grants.sql: %w", err)
	}
	for _, role := range []string{Consumer, Reader} {
		var exists bool
		if err := conn.QueryRow(ctx, "SELECT to_regrole($1) IS NOT NULL", login(role)).Scan(&exists); err != nil {
			return err
		}
		if exists {
			continue
		}
		if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE %s", login(role), role, role)); err != nil {
			return err
		}
	}
	return nil
}

// As is the URL by which a login that has the rights of role, and no others, connects to
// the same database.
func As(role, databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // it is New's
	}
	u.User = url.UserPassword(login(role), role)
	return u.String()
}

func login(role string) string { return "test_" + role }
