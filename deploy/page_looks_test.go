package deploy

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// screenshot is what `make screenshot` sets: where the README's picture goes, after a
// minute of traffic.
var screenshot = flag.String("screenshot", "", "write a picture of the live page to this `file`")

// picture is what is seen of the page, from its top.
func (b *browser) picture() *image.NRGBA {
	b.t.Helper()
	shot := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	decoded, err := png.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		b.t.Fatal(err)
	}
	img := image.NewNRGBA(decoded.Bounds())
	draw.Draw(img, img.Bounds(), decoded, image.Point{}, draw.Src)
	return img
}

// colours counts the picture's pixels by their colour, the most frequent first.
func colours(img *image.NRGBA) (list []color.Color, pixels map[color.NRGBA]int) {
	pixels = make(map[color.NRGBA]int)
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			pixels[img.NRGBAAt(x, y)]++
		}
	}
	for c := range pixels {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b color.Color) int {
		x, y := a.(color.NRGBA), b.(color.NRGBA)
		return cmp.Or(cmp.Compare(pixels[y], pixels[x]), cmp.Compare(fmt.Sprint(x), fmt.Sprint(y)))
	})
	return list, pixels
}

// small is the picture as a PNG of the 256 colours that it has most of, which are
// all but some shades of the letters' edges.
func small(t *testing.T, img *image.NRGBA) []byte {
	t.Helper()
	list, _ := colours(img)
	reduced := image.NewPaletted(img.Bounds(), list[:min(256, len(list))])
	draw.Draw(reduced, reduced.Bounds(), img, image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, reduced); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// checkStill checks that nothing has moved by itself since the page was loaded.
func (b *browser) checkStill() {
	b.t.Helper()
	if shifts := evaluate[[]string](b, `shifts`); len(shifts) > 0 {
		b.t.Errorf("%d wide, the layout shifts: %q", evaluate[int](b, `innerWidth`), shifts)
	}
}

// On a desk and on a phone, in light and in dark: nothing moves while numbers grow,
// nothing sticks out at the side, and all is drawn.
func TestPage_Looks(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "300")
	b := openPage(t, d.admin(), 1200, 1000, "light")
	for _, test := range []struct {
		width, height int64
		scheme        string
		ground        color.NRGBA
	}{
		{1200, 1000, "light", color.NRGBA{0xf4, 0xf6, 0xf8, 0xff}},
		{1200, 1000, "dark", color.NRGBA{0x0f, 0x14, 0x1a, 0xff}},
		{800, 1000, "light", color.NRGBA{0xf4, 0xf6, 0xf8, 0xff}},
		{360, 740, "dark", color.NRGBA{0x0f, 0x14, 0x1a, 0xff}},
	} {
		name := fmt.Sprintf("%d wide, %s", test.width, test.scheme)
		b.screen(test.width, test.height, test.scheme)
		b.open()
		// Each screenful of it, for as long as numbers take to grow.
		for y := int64(0); y < evaluate[int64](b, `document.documentElement.scrollHeight`); y += test.height {
			evaluate[any](b, fmt.Sprintf(`scrollTo(0, %d)`, y))
			b.awaitScrapes(1)
		}
		evaluate[any](b, `scrollTo(0, 0)`)
		b.awaitScrapes(3)
		b.checkStill()
		if wide := evaluate[int64](b, `document.documentElement.scrollWidth`); wide > test.width {
			t.Errorf("%s: the page is %d wide", name, wide)
		}
		if cut := evaluate[[]string](b, `[...document.querySelectorAll('td, .big, h2, .note, .legend li, .lag, text')]
			.filter((e) => e.checkVisibility() && (e.localName !== 'text' ? e.scrollWidth > e.clientWidth :
				e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)).map((e) => e.textContent)`); len(cut) > 0 {
			t.Errorf("%s: there is no room for %q", name, cut)
		}
		if empty := evaluate[[]string](b, `[...document.querySelectorAll('.chart, .spark')].filter((box) => {
			const canvas = box.querySelector('canvas');
			const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
			return !data.some((value, i) => i % 4 === 3 && value > 200);
		}).map((box) => box.id || box.dataset.spark)`); len(empty) > 0 {
			t.Errorf("%s: nothing is drawn in the charts %q", name, empty)
		}
		img := b.picture()
		if corner := img.NRGBAAt(2, 2); corner != test.ground {
			t.Errorf("%s: the ground is %v, want %v", name, corner, test.ground)
		}
		if list, pixels := colours(img); len(list) < 100 || pixels[list[0].(color.NRGBA)] > img.Bounds().Dx()*img.Bounds().Dy()*19/20 {
			t.Errorf("%s: the page looks empty: %d colours, most of it %v", name, len(list), list[0])
		}
	}

	if moving := evaluate[int](b, `document.getAnimations().length`); moving == 0 {
		t.Error("nothing moves in the picture while webhooks flow")
	}
	b.screen(1200, 900, "light", &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	b.awaitScrapes(2)
	if moving := evaluate[int](b, `document.getAnimations().length`); moving != 0 {
		t.Errorf("%d animations run before someone who asked for less motion", moving)
	}
}

// The README's picture can be made, and is small.
func TestPage_Screenshot(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "300")
	b := openPage(t, d.admin(), 1200, 868, "light")
	b.awaitScrapes(12)
	if *screenshot != "" {
		// Seconds that are awaited one by one: each brings a scrape.
		for range 60 {
			b.awaitScrapes(1)
		}
	}
	picture := small(t, b.picture())
	if len(picture) > 150<<10 {
		t.Errorf("the picture has %d bytes", len(picture))
	}
	if *screenshot != "" && !t.Failed() {
		if err := os.WriteFile(*screenshot, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// All that can be used can be used with the keyboard alone, in the order in which
// it is read, and is marked where the keyboard is.
func TestPage_Keyboard(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "100")
	b := openPage(t, d.admin(), 1200, 900, "light")
	b.awaitScrapes(5)
	const usable = `[...document.querySelectorAll('a, button, input, summary, [tabindex]')].filter((e) => e.checkVisibility())`
	want := evaluate[[]string](b, usable+`.map((e) => e.id || e.textContent)`)
	if len(want) < 12 {
		t.Fatalf("the page has only %q to use", want)
	}
	var got []string
	for range want {
		act(b, chromedp.KeyEvent(kb.Tab))
		got = append(got, evaluate[string](b, `document.activeElement.id || document.activeElement.textContent`))
		if !evaluate[bool](b, `(({ outlineStyle, outlineWidth }) => outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2)(getComputedStyle(document.activeElement))`) {
			t.Errorf("%q is not marked when it has the focus", got[len(got)-1])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Tab reaches\n%q, want\n%q", got, want)
	}

	evaluate[any](b, `document.querySelector('#same summary').focus()`)
	act(b, chromedp.KeyEvent(kb.Enter))
	if !evaluate[bool](b, `document.getElementById('same').open && document.querySelector('#pipe-table [data-n=applied]').checkVisibility()`) {
		t.Error("Enter does not open the table")
	}

	evaluate[any](b, `document.getElementById('delay').focus()`)
	at := func() string {
		return evaluate[string](b, `document.querySelector('#delay .u-cursor-x').style.transform`)
	}
	act(b, chromedp.KeyEvent(kb.ArrowLeft))
	one := at()
	act(b, chromedp.KeyEvent(kb.ArrowLeft))
	if two := at(); one == two || one == "" {
		t.Errorf("the arrow keys do not move over a chart: %q, then %q", one, two)
	}
}

// While nobody looks the page asks for nothing, and goes on when it is seen again.
func TestPage_Hidden(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "50")
	b := openPage(t, d.admin(), 1200, 900, "light")
	b.awaitScrapes(2)
	hide := func(hidden bool) {
		evaluate[any](b, fmt.Sprintf(`Object.defineProperty(document, 'hidden', { value: %t, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))`, hidden))
	}
	hide(true)
	asked := func() int {
		return evaluate[int](b, `performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/metrics')).length`)
	}
	before := asked()
	evaluate[any](b, `new Promise((done) => setTimeout(done, 3500))`)
	if after := asked(); after > before+1 { // one may have been under way
		t.Errorf("hidden, the page asked %d times", after-before)
	}
	hide(false)
	b.awaitScrapes(3)
	s := b.read()
	b.drawn(s)

	// As after a night in which the monotonic clock stood still.
	evaluate[any](b, `(() => { const now = Date.now; Date.now = () => now() + 8 * 3600e3; })()`)
	b.awaitScrapes(3)
	after := b.read()
	if slept := after.Drawn[len(after.Drawn)-1] - s.Drawn[len(s.Drawn)-1]; slept < 8*3600 {
		t.Errorf("a night asleep took %.0f s", slept)
	}
	b.drawn(after)
	b.checkWindows(after) // of what was after it
}
