package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
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

// browser is a Chromium with the live page open. It keeps the scrapes that the page
// was given, and what is wrong with the page: errors on its console, what its policy
// had to forbid, requests to other hosts. At the end of the test there may be none.
type browser struct {
	t    *testing.T
	ctx  context.Context
	addr string

	scrapes []scrape // see given

	mu     sync.Mutex
	faults []string
	leaves bool // see serverLeaves
}

// scrape is an answer of /metrics that the page was given, and when it was, in
// seconds.
type scrape struct {
	Text string
	At   float64
}

// watch is run in the page before all else. It keeps each scrape that the page is
// given, and by the page's clock when each was drawn.
const watch = `
window.scrapes = [];
const { text } = Response.prototype;
Response.prototype.text = async function () {
	const answer = await text.call(this);
	scrapes.push({ Text: answer, At: performance.now() / 1000 });
	return answer;
};
window.drawn = [];
new MutationObserver(([{ target }]) => drawn.push(Number(target.dataset.at)))
	.observe(document, { subtree: true, attributeFilter: ['data-at'] });
window.shifts = [];
new PerformanceObserver((list) => {
	for (const entry of list.getEntries()) {
		if (!entry.hadRecentInput) shifts.push(entry.value + ': ' + entry.sources.map(({ node }) => node?.id || node?.className || node?.textContent));
	}
}).observe({ type: 'layout-shift', buffered: true });
window.violations = [];
addEventListener('securitypolicyviolation', (event) => violations.push(event.violatedDirective + ': ' + event.blockedURI));`

// openPage opens the live page at addr, on a screen of that size that prefers light
// or dark.
func openPage(t *testing.T, addr string, width, height int64, scheme string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program(t, "chromium", "chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // root, as in CI, has none
		chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx, addr: addr}
	t.Cleanup(func() {
		if !t.Failed() {
			for _, violation := range evaluate[[]string](b, `violations`) {
				b.fault("policy: " + violation)
			}
		}
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
		cancel()
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
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
	b.screen(width, height, scheme)
	b.open()
	return b
}

// screen changes what the page is seen on.
func (b *browser) screen(width, height int64, scheme string, features ...*emulation.MediaFeature) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	features = append(features, &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
}

// open loads the page and returns when it shows numbers.
func (b *browser) open() {
	b.t.Helper()
	b.scrapes = nil
	act(b, chromedp.Navigate("http://"+b.addr+"/"))
	b.until("the page shows numbers", `!document.getElementById('main').classList.contains('waiting')`)
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

// evaluate is the value of a JavaScript expression, or of the promise that it is.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return act(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until a JavaScript condition holds.
func (b *browser) until(what, condition string) {
	b.t.Helper()
	await(b.t, what, func() error {
		if !evaluate[bool](b, condition) {
			return fmt.Errorf("it does not hold that %s", condition)
		}
		return nil
	})
}

func (b *browser) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, text)
}

// hear takes the browser's events; it must not wait for the browser.
func (b *browser) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		args, _ := json.Marshal(e.Args)
		b.fault(fmt.Sprintf("console.%s: %s", e.Type, args))
	case *runtime.EventExceptionThrown:
		details, _ := json.Marshal(e.ExceptionDetails)
		b.fault(fmt.Sprintf("exception: %s", details))
	case *log.EventEntryAdded:
		b.mu.Lock()
		leaves := b.leaves
		b.mu.Unlock()
		if !leaves || e.Entry.URL != "http://"+b.addr+"/metrics" {
			b.fault(fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Host != b.addr {
			b.fault("it asks another host: " + e.Request.URL)
		}
	}
}

// serverLeaves is called before the server does. From then on it is no fault that
// requests for /metrics fail: Chromium reports each, and may do so late.
func (b *browser) serverLeaves() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaves = true
}

// given are the scrapes that the page has been given since it was opened, oldest
// first.
func (b *browser) given() []scrape {
	b.t.Helper()
	b.scrapes = append(b.scrapes, evaluate[[]scrape](b, fmt.Sprintf(`scrapes.slice(%d)`, len(b.scrapes)))...)
	return b.scrapes
}

// awaitScrapes waits until the page was given n more scrapes.
func (b *browser) awaitScrapes(n int) {
	b.t.Helper()
	n += len(b.given())
	await(b.t, "the page asks for /metrics", func() error {
		if got := len(b.given()); got < n {
			return fmt.Errorf("it was given %d scrapes, want %d", got, n)
		}
		return nil
	})
}
