package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shown is what the page shows at one moment.
type shown struct {
	Numbers []struct{ Name, As, Text string }
	Lags    [][2]string // partition, and lag
	Verdict string
	State   string
	Since   string
	Words   string    // of the picture, for who does not see it
	Drawn   []float64 // when each scrape was, the shown one last, in seconds of the page's clock
}

func (b *browser) read() shown {
	b.t.Helper()
	return evaluate[shown](b, `({
		numbers: [...document.querySelectorAll('[data-n]')].filter((e) => !e.closest('[hidden]'))
			.map((e) => ({ name: e.dataset.n, as: e.dataset.as || 'count', text: e.textContent })),
		lags: [...document.querySelectorAll('.lag')].map((e) => [e.firstChild.textContent, e.lastChild.textContent]),
		verdict: document.getElementById('verdict').textContent,
		state: document.getElementById('state').textContent,
		since: document.getElementById('since').textContent,
		words: document.getElementById('pipe-words').textContent,
		drawn,
	})`)
}

// drawn is the scrape that the page shows, whose numbers are those shown.
func (b *browser) drawn(s shown) (index int, n numbers) {
	b.t.Helper()
	index = len(s.Drawn) - 1
	n = readNumbers(b.t, b.given()[index].Text)
	if err := n.differs(s); err != nil {
		b.t.Errorf("the page shows scrape %d, but %v", index, err)
	}
	return index, n
}

// checkClock checks the times that the page takes rates by. On a busy machine it
// may be kept waiting between being given a scrape and taking the time.
func (b *browser) checkClock(s shown) {
	b.t.Helper()
	given := b.given()
	for i, at := range s.Drawn {
		if off := (at - s.Drawn[0]) - (given[i].At - given[0].At); off < -2 || off > 2 {
			b.t.Errorf("scrape %d is %.3f s off by the page's clock", i, off)
		}
	}
}

// windowStart is the oldest scrape of the last seconds, half a second more at the
// most, that none is missing after: there is none 5 seconds after another. -1 is none.
func (s shown) windowStart(seconds float64) int {
	last := len(s.Drawn) - 1
	i := last
	for i > 0 && s.Drawn[i-1] >= s.Drawn[last]-seconds-0.5 && s.Drawn[i]-s.Drawn[i-1] <= 5 {
		i--
	}
	if i == last {
		return -1
	}
	return i
}

// checkWindows checks the rates and the quantiles shown: each is that of the scrape
// shown and the one that is as many seconds older as it says.
func (b *browser) checkWindows(s shown) {
	b.t.Helper()
	given := b.given()
	last := len(s.Drawn) - 1
	to := readNumbers(b.t, given[last].Text)
	for _, item := range s.Numbers {
		window := 10
		histogram, rest, _ := strings.Cut(item.Name, ".")
		var percent int
		if item.As == "seconds" || item.As == "size" {
			if _, err := fmt.Sscanf(rest, "p%d.%d", &percent, &window); err != nil {
				b.t.Fatalf("%s: %v", item.Name, err)
			}
		}
		i := s.windowStart(float64(window))
		if i < 0 {
			b.t.Fatalf("no scrape is less than %d s older than the last of %v", window, s.Drawn)
		}
		from := readNumbers(b.t, given[i].Text)
		want := item.Text
		switch item.As {
		case "rate":
			want = rate(to.counts[item.Name]-from.counts[item.Name], s.Drawn[last]-s.Drawn[i])
		case "seconds":
			want = seconds(quantile(histogram, float64(percent)/100, from, to))
		case "size":
			want = commas(quantile(histogram, float64(percent)/100, from, to))
		}
		if item.Text != want {
			b.t.Errorf("%s as %s is shown as %s, want %s: that of the scrapes %d and %d, %.3f s apart",
				item.Name, item.As, item.Text, want, i, last, s.Drawn[last]-s.Drawn[i])
		}
	}
}

// While traffic runs, what the page shows is what one scrape says, to the last
// digit: of a dozen seconds each.
func TestPage_Numbers(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "200")
	b := openPage(t, d.admin(), 1200, 900, "light")
	b.awaitScrapes(13) // rates and quantiles look back ten seconds
	last := -1
	for range 5 {
		b.awaitScrapes(1)
		s := b.read()
		j, n := b.drawn(s)
		if j <= last {
			t.Errorf("the page shows scrape %d after scrape %d", j, last)
		}
		last = j
		if n.counts["received"] == 0 || n.counts["firstopens"] == 0 || n.counts["unauthorized"] == 0 {
			t.Errorf("there is no traffic to compare: %v", n.counts)
		}
		b.checkWindows(s)
		b.checkClock(s)
		if s.Verdict != "All accounted for" { // a scrape is one moment: its counts add up
			t.Errorf("the verdict is %q: %v", s.Verdict, n.counts)
		}
		for _, part := range []string{"received", "accepted", "refused", "consumed", "applied", "duplicate"} {
			if total := commas(n.counts[part]) + " in total"; !strings.Contains(s.Words, total) {
				t.Errorf("the picture's words lack %q, of %s: %s", total, part, s.Words)
			}
		}
	}
	body, err := get(t.Context(), "http://"+d.admin()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	later := readNumbers(t, string(body))
	for name, count := range readNumbers(t, b.given()[last].Text).counts {
		if name != "lag" && count > later.counts[name] {
			t.Errorf("%s was shown as %v, and is %v now", name, count, later.counts[name])
		}
	}
}

// legends are the values of a chart at each of its points, oldest first, as its
// legend tells them to who presses the arrow keys.
func (b *browser) legends(chart string) []string {
	b.t.Helper()
	return evaluate[[]string](b, fmt.Sprintf(`(() => {
		const box = document.getElementById(%[1]q), legend = document.getElementById(%[1]q + '-legend');
		const press = (key) => box.dispatchEvent(new KeyboardEvent('keydown', { key }));
		const values = () => [...legend.querySelectorAll('b')].map((b) => b.textContent).join(' ');
		const list = [];
		press('Home');
		for (let at = ''; at !== box.querySelector('.u-cursor-x').style.transform; press('ArrowRight')) {
			at = box.querySelector('.u-cursor-x').style.transform;
			list.push(values());
		}
		press('Escape');
		return list;
	})()`, chart))
}

// keptAddr is a free address on loopback that nobody is given in the meantime who
// asks for any: Linux gives ports from 32768 on.
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

// The process ends, and starts again on its address: the page says since when it is
// away and keeps its numbers, goes on by itself, and loses nothing of its charts.
func TestPage_Restart(t *testing.T) {
	t.Parallel()
	addr := keptAddr(t)
	d := startDev(t, []string{"ADMIN_ADDR=" + addr}, "-rate", "100")
	b := openPage(t, addr, 1200, 900, "dark")
	b.awaitScrapes(8)
	evaluate[int](b, `window.notReloaded = 1`)

	b.serverLeaves()
	d.stop()
	b.until("the page says that the process is away", `document.getElementById('state').dataset.state === 'away'`)
	s := b.read()
	if !regexp.MustCompile(`^Not reachable since \d\d:\d\d:\d\d$`).MatchString(s.State) {
		t.Errorf("its state is %q", s.State)
	}
	if height := evaluate[int](b, `document.getElementById('state').offsetHeight`); height > 36 {
		t.Errorf("its state has no room: it is %d high", height)
	}
	end, was := b.drawn(s)
	if end != len(b.given())-1 {
		t.Errorf("while the process is away the page shows scrape %d of %d", end, len(b.given()))
	}
	before := b.legends("aside")
	if len(before) < 8 {
		t.Fatalf("the chart has %d points after 8 scrapes", len(before))
	}
	if moving := evaluate[int](b, `document.getAnimations().length`); moving != 0 {
		t.Errorf("%d animations run while nothing is known to flow", moving)
	}

	startDev(t, []string{"ADMIN_ADDR=" + addr}, "-rate", "100")
	b.until("the page goes on", `document.getElementById('state').dataset.state === 'live'`)
	b.awaitScrapes(4)
	s = b.read()
	now, is := b.drawn(s)
	if is.counts["received"] == 0 || now <= end {
		t.Errorf("after the restart it shows scrape %d: %v", now, is.counts)
	}
	t.Logf("received %v before, %v after", was.counts["received"], is.counts["received"])
	if !strings.Contains(s.Since, "restarted at") {
		t.Errorf("it does not tell of the restart: %q", s.Since)
	}
	for _, item := range s.Numbers {
		if strings.ContainsAny(item.Text, "-−") {
			t.Errorf("%s is shown as %s", item.Name, item.Text)
		}
	}
	after := b.legends("aside")
	if len(after) <= len(before) || !slices.Equal(after[:len(before)], before) {
		t.Errorf("the chart had\n%q before the restart, and has now\n%q", before, after)
	}
	for _, values := range after {
		if strings.ContainsAny(values, "-−") {
			t.Errorf("the chart has a negative rate: %s", values)
		}
	}
	if evaluate[int](b, `window.notReloaded ?? 0`) != 1 {
		t.Error("the page was loaded anew")
	}
	b.checkStill()
}

// admin is where a role that has been started serves its admin port, as it logs.
func (p *process) admin(t *testing.T) (public, admin string) {
	t.Helper()
	await(t, p.name+" starts", func() error {
		for line := range strings.Lines(p.printed()) {
			var started struct {
				Msg   string
				HTTP  string `json:"http_addr"`
				Admin string `json:"admin_addr"`
			}
			if json.Unmarshal([]byte(line), &started) == nil && strings.HasSuffix(started.Msg, " started") {
				public, admin = started.HTTP, started.Admin
				return nil
			}
		}
		return errors.New(p.printed())
	})
	return public, admin
}

// joining is the environment of a role that joins in.
func (d *dev) joining() (environ []string) {
	for name, value := range d.environ {
		environ = append(environ, name+"="+value)
	}
	return append(environ, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0")
}

// A producer's page has its part of the pipe and says where the rest is, and so has
// a consumer's.
func TestPage_Roles(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "0")
	environ := d.joining()
	gateway, gatewayAdmin := start(t, environ, mailtally, "producer").admin(t)
	_, memberAdmin := start(t, environ, mailtally, "consumer").admin(t)
	start(t, append(environ, "HTTP_ADDR="+gateway), mailtally, "simulate", "-rate", "100")
	for _, test := range []struct {
		role, addr, moves string
		titles            []string
		elsewhere         []string
	}{
		{"A producer", gatewayAdmin, "accepted",
			[]string{"How late?", "What is refused, and why?", "And the tally?", "From webhook to row", "Delay", "What leaves the pipe"},
			[]string{"consumed", "applied", "dropped", "duplicate"}},
		{"A consumer", memberAdmin, "applied",
			[]string{"Is every event counted?", "How late?", "And the webhooks?", "From webhook to row", "Events by type", "First opens and first clicks",
				"Delay", "What leaves the pipe", "Lag by partition", "Dropped events, and dropped clicks", "Batches and retries"},
			[]string{"received", "accepted", "refused", "ignored", "malformed"}},
	} {
		b := openPage(t, test.addr, 1200, 1400, "light")
		await(t, test.role+" has something to show", func() error {
			given := b.given()
			if len(given) < 5 || readNumbers(t, given[len(given)-1].Text).counts[test.moves] == 0 {
				return errors.New("it has not")
			}
			return nil
		})
		b.checkStill()
		s := b.read()
		b.drawn(s)
		b.checkWindows(s)
		b.checkClock(s)
		if titles := evaluate[[]string](b, `[...document.querySelectorAll('h2')].filter((e) => e.checkVisibility()).map((e) => e.textContent)`); !slices.Equal(titles, test.titles) {
			t.Errorf("%s has %q, want %q", test.role, titles, test.titles)
		}
		if role := evaluate[string](b, `document.getElementById('role').textContent`); !strings.HasPrefix(role, test.role) {
			t.Errorf("%s says %q", test.role, role)
		}
		if elsewhere := evaluate[[]string](b, `[...document.querySelectorAll('#pipe .flow.elsewhere')].map((e) => e.dataset.flow)`); !slices.Equal(elsewhere, test.elsewhere) {
			t.Errorf("%s has another process's %q, want %q", test.role, elsewhere, test.elsewhere)
		}
		for _, item := range s.Numbers {
			if slices.Contains(test.elsewhere, item.Name) {
				t.Errorf("%s shows another process's number: %s %s", test.role, item.Name, item.Text)
			}
		}
	}
}
