package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"

	"github.com/mailtally/mailtally/internal/bench/child"
	"github.com/mailtally/mailtally/internal/localpg"
	"github.com/mailtally/mailtally/internal/testpg"
)

// The services of docker-compose.yml without a container engine: each with its own
// command and environment, mailtally's in the image's root and as its user, against
// Kafka and PostgreSQL of the images' versions. Only the addresses are others.

// startComposedPostgres runs the major version of the service postgres with its
// settings, database, user and password, and returns its address.
func startComposedPostgres(t *testing.T, service types.ServiceConfig) (pg *localpg.Server, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := testpg.Dir(t)
	var major int
	if _, err := fmt.Sscanf(tag(t, service.Image), "%d.", &major); err != nil {
		t.Fatal(err)
	}
	bin, err := localpg.Fetch(ctx, dir, major)
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	for i := 1; i+1 < len(service.Command); i += 2 { // postgres -c name=value …
		name, value, _ := strings.Cut(service.Command[i+1], "=")
		settings[name] = value
	}
	pg, err = localpg.Start(ctx, localpg.Options{Dir: dir, BinDir: bin, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := pg.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	user, database, password := *service.Environment["POSTGRES_USER"], *service.Environment["POSTGRES_DB"], *service.Environment["POSTGRES_PASSWORD"]
	create := "CREATE"
	if user == conn.Config().User {
		create = "ALTER"
	}
	for _, sql := range []string{
		fmt.Sprintf("%s ROLE %s LOGIN SUPERUSER PASSWORD '%s'", create, pgx.Identifier{user}.Sanitize(), password),
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", pgx.Identifier{database}.Sanitize(), pgx.Identifier{user}.Sanitize()),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range settings {
		var got string
		if err := conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&got); err != nil || got != value {
			t.Errorf("PostgreSQL has %s=%s (%v), want %s", name, got, err, value)
		}
	}
	return pg, net.JoinHostPort(conn.Config().Host, fmt.Sprint(conn.Config().Port))
}

// member is a running container of a role.
type member struct {
	*process
	image   *containerImage
	service types.ServiceConfig
	environ []string
	admin   string
}

// startMember runs a container of a service on free ports, instead of those that a
// container has to itself.
func startMember(t *testing.T, service types.ServiceConfig, elsewhere *strings.Replacer, environ ...string) *member {
	t.Helper()
	m := &member{image: theImage(t), service: service, admin: freeAddr(t)}
	m.environ = append(environment(service, elsewhere), append(environ, "ADMIN_ADDR="+m.admin)...)
	m.process = m.image.run(t, m.environ, service.Command...)
	return m
}

// health runs the service's health check in the container.
func (m *member) health(t *testing.T) error {
	t.Helper()
	test := m.service.HealthCheck.Test
	if test[0] != "CMD" || test[1] != m.image.entrypoint[0] {
		t.Fatalf("health check %q, want one that needs no shell", test)
	}
	if code, printed := m.image.exec(t, m.environ, test[2:]...); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, printed)
	}
	return nil
}

func TestComposed(t *testing.T) {
	t.Parallel()
	project := loadAll(t)
	image := theImage(t)
	kafka := startComposedKafka(t, project.Services["kafka"])
	pg, database := startComposedPostgres(t, project.Services["postgres"])
	await(t, "kafka is healthy", func() error { return kafka.health(t) })
	kafka.checkSettings(t)

	host, port, err := net.SplitHostPort(database)
	if err != nil {
		t.Fatal(err)
	}
	pgReady := func() error {
		test := project.Services["postgres"].HealthCheck.Test
		line := strings.NewReplacer("127.0.0.1", host, "5432", port).Replace(strings.Join(test[2:], " "))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return child.Run(ctx, exec.Command(program(t, test[1], "postgresql-client"), strings.Fields(line)...))
	}
	if err := pgReady(); err != nil {
		t.Errorf("postgres is not healthy: %v", err)
	}

	public := freeAddr(t)
	elsewhere := strings.NewReplacer("kafka:9092", kafka.inside, "postgres:5432", database, "producer:8080", public)
	migrate := project.Services["migrate"]
	if code, printed := image.exec(t, environment(migrate, elsewhere), migrate.Command...); code != 0 {
		t.Fatalf("migrate: exit code %d\n%s", code, printed)
	}
	producer := startMember(t, project.Services["producer"], elsewhere, "HTTP_ADDR="+public)
	consumer := project.Services["consumer"]
	members := map[string]*member{"producer": producer}
	for n := range consumer.GetScale() {
		members[fmt.Sprint("consumer ", n+1)] = startMember(t, consumer, elsewhere)
	}
	for name, m := range members {
		await(t, name+" is healthy", func() error { return m.health(t) })
	}
	var targets []string
	for name, m := range members {
		if name != "producer" {
			targets = append(targets, m.admin)
		}
	}
	watchers := startWatchers(t, project, producer.admin, targets)

	const webhooks = 2000
	simulate := project.Services["simulate"]
	command := append(simulate.Command, "-total", fmt.Sprint(webhooks), "-seed", "1")
	for i, word := range command {
		command[i] = elsewhere.Replace(word)
	}
	if i := len(simulate.Command); command[i-4] != "-rate" {
		t.Fatalf("simulate's command is %q: this test makes its rate another", simulate.Command)
	} else {
		command[i-3] = "500"
	}
	if code, printed := image.exec(t, environment(simulate, elsewhere), command...); code != 0 {
		t.Fatalf("simulate: exit code %d\n%s", code, printed)
	}
	watchers.see(t, pg, len(targets))

	// The role's health is that of what it needs.
	kafka.stop()
	await(t, "the producer misses Kafka", func() error {
		if producer.health(t) == nil {
			return errors.New("it is healthy")
		}
		return nil
	})
	if err := kafka.health(t); err == nil {
		t.Error("Kafka is healthy after its end")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := pg.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "postgres is unhealthy", func() error {
		if pgReady() == nil {
			return errors.New("it is healthy")
		}
		return nil
	})
	for name, m := range members {
		started := time.Now()
		m.stop()
		if took, grace := time.Since(started), time.Duration(*m.service.StopGracePeriod); took > grace {
			t.Errorf("%s took %v to end, and Docker waits for %v", name, took, grace)
		}
		if err := m.Err(); err == nil || err.Error() != "exit status 0" {
			t.Errorf("%s ended with %v", name, err)
		}
	}
}

// databaseURL is the database of the service postgres.
func databaseURL(pg *localpg.Server, service types.ServiceConfig) string {
	u, _ := url.Parse(pg.URL(*service.Environment["POSTGRES_DB"]))
	u.User = url.UserPassword(*service.Environment["POSTGRES_USER"], *service.Environment["POSTGRES_PASSWORD"])
	return u.String()
}
