package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a Chromium that shows the live page. It collects faults: console errors,
// policy violations, requests to other hosts, layout shifts. At the end of the test
// there must be none.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	addrs  []string // whose pages were opened
	leaves bool     // see serverLeaves
	faults []string
}

// drawing is what the page shows, and the /metrics answer that it draws.
type drawing struct {
	Scrape  string
	Shown   map[string]string // totals by the names that data-n gives them
	Lags    int               // partitions with a bar
	Verdict string
}

// watch runs in the page before everything else. It keeps each drawing: the page draws
// all of a scrape at once, and sets data-at first.
const watch = `
window.faulty = [];
addEventListener('securitypolicyviolation', (event) => faulty.push('policy: ' + event.violatedDirective + ': ' + event.blockedURI));
new PerformanceObserver((list) => {
	for (const { hadRecentInput, sources } of list.getEntries()) {
		if (!hadRecentInput) faulty.push('the layout shifts: ' + sources.map(({ node }) => node?.id || node?.className || node?.textContent));
	}
}).observe({ type: 'layout-shift', buffered: true });
const { text } = Response.prototype;
Response.prototype.text = async function () { return window.scrape = await text.call(this); };
window.drawings = [];
new MutationObserver(() => drawings.push({
	scrape,
	shown: Object.fromEntries([...document.querySelectorAll('[data-n]')]
		.filter((e) => (e.dataset.as || 'count') === 'count' && !e.closest('[hidden]')).map((e) => [e.dataset.n, e.textContent])),
	lags: document.querySelectorAll('.lag').length,
	verdict: document.getElementById('verdict').textContent,
})).observe(document, { subtree: true, attributeFilter: ['data-at'] });`

// openBrowser starts Chromium with an empty page.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program(t, "chromium", "chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // root, as in CI, has none
		chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
		cancel()
		stop()
		for _, fault := range b.faults {
			t.Error("the page: " + fault)
		}
	})
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	return b
}

// open loads the page at addr on such a screen, and returns when it shows numbers.
func (b *browser) open(addr string, width, height int64, scheme string, features ...*emulation.MediaFeature) {
	b.t.Helper()
	b.mu.Lock()
	b.addrs = append(b.addrs, addr)
	b.mu.Unlock()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	features = append(features, &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	act(b, chromedp.Navigate("http://"+addr+"/"))
	b.drawings(1)
}

func act[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return act(b, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

// evaluate is the value of a JavaScript expression.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return act(b, chromedp.Evaluate[T](expression))
}

// until waits until a JavaScript condition holds.
func (b *browser) until(condition string) {
	b.t.Helper()
	await(b.t, "the page", func() error {
		if !evaluate[bool](b, condition) {
			return fmt.Errorf("it does not hold that %s", condition)
		}
		return nil
	})
}

// drawings waits for n more drawings and returns them. The page must be free of faults
// by then.
func (b *browser) drawings(n int) []drawing {
	b.t.Helper()
	before := evaluate[int](b, `drawings.length`)
	b.until(fmt.Sprintf(`drawings.length >= %d`, before+n))
	for _, fault := range evaluate[[]string](b, `faulty`) {
		b.fault(fault)
	}
	return evaluate[[]drawing](b, fmt.Sprintf(`drawings.slice(%d, %d)`, before, before+n))
}

func (b *browser) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, text)
}

// hear handles the browser's events; it must not wait for the browser.
func (b *browser) hear(event any) {
	b.mu.Lock()
	addrs, leaves := b.addrs, b.leaves
	b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		args, _ := json.Marshal(e.Args)
		b.fault(fmt.Sprintf("console.%s: %s", e.Type, args))
	case *runtime.EventExceptionThrown:
		details, _ := json.Marshal(e.ExceptionDetails)
		b.fault(fmt.Sprintf("exception: %s", details))
	case *log.EventEntryAdded:
		if !leaves || !strings.HasSuffix(e.Entry.URL, "/metrics") {
			b.fault(fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || !slices.Contains(addrs, u.Host) {
			b.fault("it asks another host: " + e.Request.URL)
		}
	}
}

// serverLeaves is called before the server stops. From then on failed requests for
// /metrics are not faults: Chromium reports each, and may do so late.
func (b *browser) serverLeaves() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaves = true
}
