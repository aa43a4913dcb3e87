package deploy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// screenshot is set by `make screenshot`: the file for the README's picture, taken
// after a minute of traffic.
var screenshot = flag.String("screenshot", "", "write a picture of the live page to this `file`")

// The live page of a running mailtally, in Chromium: its numbers move and match
// /metrics, it fits its screen, and it survives a restart of its process. Its
// arithmetic is tested beside it, in its own language.
func TestPage(t *testing.T) {
	t.Parallel()
	addr := keptAddr(t)
	d := startDev(t, []string{"ADMIN_ADDR=" + addr}, "-rate", "200")
	b := openBrowser(t)
	for _, screen := range []struct {
		width, height int64
		scheme        string
		ground        string
	}{
		{360, 740, "light", "rgb(244, 246, 248)"},
		{1200, 900, "dark", "rgb(15, 20, 26)"},
		{1200, 868, "light", "rgb(244, 246, 248)"},
	} {
		b.open(addr, screen.width, screen.height, screen.scheme)
		b.checkNumbers(b.drawings(2))
		if ground := evaluate[string](b, `getComputedStyle(document.body).backgroundColor`); ground != screen.ground {
			t.Errorf("%+v: the ground is %s", screen, ground)
		}
		b.checkLayout()
	}
	if *screenshot != "" {
		b.drawings(60)
		shot := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{})
		if err := os.WriteFile(*screenshot, shot.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}

	b.until(`document.getAnimations().length > 0 && drawings.at(-1).shown.received !== drawings[0].shown.received`)
	b.checkRole(d, "producer",
		[]string{"How late?", "What is refused, and why?", "And the tally?", "From webhook to row", "Delay", "What leaves the pipe"},
		[]string{"consumed", "applied", "dropped", "duplicate"})
	b.checkRole(d, "consumer",
		[]string{"Is every event counted?", "How late?", "And the webhooks?", "From webhook to row", "Events by type", "First opens and first clicks",
			"Delay", "What leaves the pipe", "Lag by partition", "Dropped events, and dropped clicks", "Batches and retries"},
		[]string{"received", "accepted", "refused", "ignored", "malformed"})

	b.open(addr, 1200, 900, "light")
	b.drawings(1)
	b.readChart("delay", `^\d+ s ago: 99 % within .+, half within .+, in Kafka, 99 % .+, in Kafka, half .+$`)

	b.serverLeaves()
	d.stop()
	b.until(`state.dataset.state === 'away' && /^Not reachable since \d\d:\d\d:\d\d$/.test(state.textContent)`)
	if evaluate[int](b, `document.getAnimations().length`) != 0 {
		t.Error("something moves in the picture while nothing is known to flow")
	}
	evaluate[int](b, `window.notReloaded = 1`)
	startDev(t, []string{"ADMIN_ADDR=" + addr}, "-rate", "200")
	b.until(`state.dataset.state === 'live' && window.notReloaded === 1`)
	b.checkNumbers(b.drawings(2))
	if since := evaluate[string](b, `since.textContent`); !strings.Contains(since, "restarted at") {
		t.Errorf("the page does not announce the restart: %q", since)
	}

	b.open(addr, 1200, 900, "light", &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	b.drawings(2)
	if evaluate[int](b, `document.getAnimations().length`) != 0 {
		t.Error("something moves before someone who asked for less motion")
	}
}

// checkRole runs a role that joins, and checks that its page shows its part of the pipe
// and says where the rest is: other processes' flows have no numbers.
func (b *browser) checkRole(d *dev, role string, titles, elsewhere []string) {
	b.t.Helper()
	var environ []string
	for name, value := range d.environ {
		environ = append(environ, name+"="+value)
	}
	p := start(b.t, append(environ, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"), mailtally, role)
	defer p.stop()
	b.open(p.admin(b.t), 1200, 900, "light")
	if got := evaluate[[]string](b, `[...document.querySelectorAll('h2')].filter((e) => e.checkVisibility()).map((e) => e.textContent)`); !slices.Equal(got, titles) {
		b.t.Errorf("a %s has %q, want %q", role, got, titles)
	}
	if got := evaluate[[]string](b, `[...document.querySelectorAll('#pipe .flow.elsewhere')].map((e) => e.dataset.flow)`); !slices.Equal(got, elsewhere) {
		b.t.Errorf("a %s has another process's %q, want %q", role, got, elsewhere)
	}
	for name, shown := range b.drawings(1)[0].Shown {
		if slices.Contains(elsewhere, name) {
			b.t.Errorf("a %s shows another process's number: %s %s", role, name, shown)
		}
	}
}

// checkNumbers checks that each drawing shows exactly one scrape's totals, and that
// they add up. The number received never falls.
func (b *browser) checkNumbers(drawings []drawing) {
	b.t.Helper()
	last := 0.0
	for _, d := range drawings {
		for name, series := range map[string]string{
			"received":               `mailtally_webhooks_total\{`,
			"accepted":               `mailtally_webhooks_total\{.*result="accepted"`,
			"refused":                `mailtally_webhooks_total\{.*result="(unauthorized|incomplete|too_large|unavailable)"`,
			"malformed":              `mailtally_webhooks_total\{.*result="malformed"`,
			"consumed":               `mailtally_events_consumed_total\{`,
			"applied":                `mailtally_events_applied_total\{`,
			"duplicate":              `mailtally_events_duplicate_total\{`,
			"dropped":                `mailtally_events_dropped_total\{`,
			"firstopens":             `mailtally_first_opens_total\b`,
			"firstclicks":            `mailtally_first_clicks_total\b`,
			"lag":                    `mailtally_consumer_lag\{`,
			"applied.opened":         `mailtally_events_applied_total\{.*type="opened"`,
			"dropped.for.bad_time":   `mailtally_events_dropped_total\{.*reason="bad_time"`,
			"retries.for.connection": `mailtally_apply_retries_total\{.*reason="connection"`,
		} {
			shown, err := strconv.ParseFloat(strings.ReplaceAll(d.Shown[name], ",", ""), 64)
			if want := sum(b.t, d.Scrape, series); err != nil || shown != want {
				b.t.Errorf("%s is shown as %q, and is %v", name, d.Shown[name], want)
			}
		}
		if partitions := strings.Count(d.Scrape, "\nmailtally_consumer_lag{"); d.Lags != partitions {
			b.t.Errorf("the page has the lag of %d partitions, want %d", d.Lags, partitions)
		}
		verdict := "All accounted for" // a scrape is one moment
		if sum(b.t, d.Scrape, `mailtally_events_consumed_total\{`) == 0 {
			verdict = "No events yet"
		}
		if d.Verdict != verdict {
			b.t.Errorf("the verdict is %q, want %q", d.Verdict, verdict)
		}
		received := sum(b.t, d.Scrape, `mailtally_webhooks_total\{`)
		if received < last {
			b.t.Errorf("%v webhooks were received, after %v", received, last)
		}
		last = received
	}
}

// sum sums those series of a scrape.
func sum(t *testing.T, scrape, series string) (total float64) {
	t.Helper()
	for _, sample := range regexp.MustCompile(`(?m)^`+series+`.* (\S+)$`).FindAllStringSubmatch(scrape, -1) {
		value, err := strconv.ParseFloat(sample[len(sample)-1], 64)
		if err != nil {
			t.Fatal(err)
		}
		total += value
	}
	return total
}

// checkLayout checks that nothing overflows or is cut off, and that everything is
// drawn.
func (b *browser) checkLayout() {
	b.t.Helper()
	width := evaluate[int](b, `innerWidth`)
	if wide := evaluate[int](b, `document.documentElement.scrollWidth`); wide > width {
		b.t.Errorf("on a screen %d wide the page is %d wide", width, wide)
	}
	if cut := evaluate[[]string](b, `[...document.querySelectorAll('td, .big, h2, .note, .legend li, .lag, text')]
		.filter((e) => e.checkVisibility() && (e.localName !== 'text' ? e.scrollWidth > e.clientWidth :
			e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)).map((e) => e.textContent)`); len(cut) > 0 {
		b.t.Errorf("on a screen %d wide there is no room for %q", width, cut)
	}
	b.until(`[...document.querySelectorAll('.chart canvas, .spark canvas')].every((canvas) => {
		const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
		copy.drawImage(canvas, 0, 0);
		return copy.getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => i % 4 === 3 && value > 200);
	})`)
}

// readChart uses the arrow keys to have a chart read out.
func (b *browser) readChart(id, want string) {
	b.t.Helper()
	evaluate[any](b, `document.getElementById('`+id+`').focus()`)
	var said []string
	for _, key := range []string{kb.Home, kb.End, kb.Escape} {
		act(b, chromedp.KeyEvent(key))
		said = append(said, evaluate[string](b, `document.activeElement.ariaValueText`))
	}
	text := regexp.MustCompile(want)
	if !text.MatchString(said[0]) || !text.MatchString(said[1]) || said[0] == said[1] || said[2] != "no point chosen" {
		b.t.Errorf("%s says %q of its first point, of its last and of none", id, said)
	}
}

// keptAddr is a free address that nobody is given meanwhile by asking for any port:
// Linux hands out ports from 32768 up.
func keptAddr(t *testing.T) (addr string) {
	t.Helper()
	await(t, "a port is free", func() error {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err != nil {
			return err
		}
		addr = l.Addr().String()
		return l.Close()
	})
	return addr
}

// admin is the address of a role's admin port, from its log.
func (p *process) admin(t *testing.T) (addr string) {
	t.Helper()
	await(t, p.name+" starts", func() error {
		for line := range strings.Lines(p.printed()) {
			var started struct {
				Msg   string
				Admin string `json:"admin_addr"`
			}
			if json.Unmarshal([]byte(line), &started) == nil && strings.HasSuffix(started.Msg, " started") {
				addr = started.Admin
				return nil
			}
		}
		return errors.New("it has not logged the address yet")
	})
	return addr
}
