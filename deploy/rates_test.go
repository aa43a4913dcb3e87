package deploy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mailtally/mailtally/internal/simulate"
)

// The two rates that Prometheus records for known traffic agree with SQL.
//
// They are exact: all series of the window begin at 0, at the same scrape, so rate()
// extrapolates each of them by the same factor, which cancels out in a ratio. It does
// not cancel in the rate itself: there, with samples over 5 s and more at four a
// second, it is 1.1 at most.
func TestRatesAgreeWithSQL(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "0")
	p := startPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 250ms, evaluation_interval: 250ms}
rule_files: [%q]
scrape_configs:
- job_name: mailtally
  static_configs: [{targets: [%q], labels: {group: mailtally}}]
`, recordedOften(t), d.admin()))
	value := func(expression string) (float64, error) {
		got, err := p.query(t, expression)
		if err != nil {
			return 0, err
		}
		if len(got) != 1 {
			return 0, fmt.Errorf("%s: %v, want one sample", expression, got)
		}
		return got[0].Value, nil
	}
	wait := func(expression string, want float64) {
		t.Helper()
		await(t, expression, func() error {
			got, err := value(expression)
			if err == nil && got != want {
				err = fmt.Errorf("it is %v, want %v", got, want)
			}
			return err
		})
	}
	// Each series has been scraped at 0.
	wait(`count(mailtally_first_opens_total == 0)`, 2)

	s := &sender{t: t, dev: d}
	emails := make([]string, 40)
	for i := range emails {
		emails[i] = uuid.NewString()
	}
	for i, email := range emails[:20] {
		s.send("delivered", email)
		if i < 5 {
			s.send("delivered", email) // to a second recipient: a separate event
		}
		if i < 8 {
			s.repeat(s.send("opened", email))
			s.send("opened", email) // again: not a first open
		}
		if i < 6 {
			s.repeat(s.send("clicked", email))
			s.send("clicked", email)
		}
	}
	// Opened before it is delivered, as happens, and never delivered.
	s.send("opened", emails[20])
	s.send("delivered", emails[20])
	s.send("opened", emails[21])
	// Clicks with an unreadable time, one of them sent twice: nothing remembers it, so
	// it counts twice.
	for _, email := range emails[22:25] {
		s.undated("clicked", email)
	}
	s.repeat(s.undated("clicked", emails[25]))
	// A dropped event that is not a click.
	s.undated("opened", emails[26])

	const (
		firstOpens = 8 + 1 + 1
		deliveries = 20 + 5 + 1
		clicks     = 6 * 2
		duplicates = 6 // of clicks
		dropped    = 3 + 2
	)
	wait(`sum(mailtally_events_applied_total) + sum(mailtally_events_duplicate_total) + sum(mailtally_events_dropped_total)`, float64(s.sent))

	conn, err := pgx.Connect(t.Context(), d.environ["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	sql := func(query string, want float64) float64 {
		t.Helper()
		var got float64
		if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", query, got, err, want)
		}
		return got
	}
	opened := sql(`SELECT count(opened_at)::float8 FROM mailtally.email_history`, firstOpens)
	delivered := sql(`SELECT count(*)::float8 FROM mailtally.email_event WHERE type = 'delivered'`, deliveries)
	clicked := sql(`SELECT sum(click_count)::float8 FROM mailtally.email_history`, clicks)
	sql(cohort, (8+1)/float64(20+1))

	for _, window := range []string{"1h", "1d"} {
		wait("group:mailtally_first_open:ratio_rate"+window+`{group="mailtally"}`, opened/delivered)
		wait("group:mailtally_dropped_click:ratio_rate"+window+`{group="mailtally"}`, dropped/(clicked+duplicates+dropped))
	}
	for rate, n := range map[string]float64{"group:mailtally_first_opens:rate5m": opened, "group:mailtally_dropped_clicks:rate5m": dropped} {
		await(t, rate, func() error {
			got, err := value(rate + "* 300")
			if err == nil && (got < n || got > 1.1*n) {
				err = fmt.Errorf("%v in five minutes, want %v to %v", got, n, 1.1*n)
			}
			return err
		})
	}
	wait("group:mailtally_events_unreconciled:sum", 0)
}

// cohort is the docs' exact number: the share of the emails delivered in a period that
// have been opened by now.
const cohort = `
SELECT count(opened_at)::float8 / nullif(count(*), 0)
  FROM mailtally.email_history
 WHERE delivered_at >= now() - interval '1 day' AND delivered_at < now()`

// recordedOften is the shipped rules with shorter intervals: in the test, the interval
// is Prometheus's own.
func recordedOften(t *testing.T) string {
	t.Helper()
	return rewritten(t, rulesFile, func(text string) string { return strings.ReplaceAll(text, "    interval: 1m\n", "") })
}

// sender sends webhooks as Resend does.
type sender struct {
	t    *testing.T
	dev  *dev
	sent int
}

func (s *sender) send(event, email string) simulate.Webhook {
	return s.sendAt(event, email, time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano))
}

// undated sends an event with an unreadable time.
func (s *sender) undated(event, email string) simulate.Webhook {
	return s.sendAt(event, email, "yesterday")
}

func (s *sender) sendAt(event, email, at string) simulate.Webhook {
	s.t.Helper()
	w := simulate.Webhook{
		ID:   "msg_" + strings.ReplaceAll(uuid.NewString(), "-", ""),
		Body: fmt.Appendf(nil, `{"type":"email.%s","created_at":%q,"data":{"email_id":%q}}`, event, at, email),
	}
	s.repeat(w)
	return w
}

// repeat sends a webhook, or sends it again.
func (s *sender) repeat(w simulate.Webhook) {
	s.t.Helper()
	signer, err := simulate.NewSigner(s.dev.environ["RESEND_WEBHOOK_SECRETS"])
	if err != nil {
		s.t.Fatal(err)
	}
	url := "http://" + s.dev.environ["HTTP_ADDR"] + "/webhooks/resend"
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(string(w.Body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = signer.Header(w, time.Now())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s is answered %s", w.Body, resp.Status)
	}
	s.sent++
}
