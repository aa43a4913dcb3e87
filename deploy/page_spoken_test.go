package deploy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// spoken is what Chromium tells a screen reader of the element that has the focus.
type spoken struct{ role, name, value, text string }

func (b *browser) spoken() spoken {
	b.t.Helper()
	text := func(value *accessibility.Value) (text string) {
		if value == nil {
			return ""
		}
		if err := json.Unmarshal(value.Value, &text); err != nil {
			return string(value.Value) // no string
		}
		return text
	}
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		focused := slices.ContainsFunc(node.Properties, func(p *accessibility.Property) bool {
			return p.Name == accessibility.PropertyNameFocused && text(p.Value) == "true"
		})
		if focused && text(node.Role) != "RootWebArea" {
			// Chromium has the value's text for screen readers, but not for tests.
			return spoken{text(node.Role), text(node.Name), text(node.Value), evaluate[string](b, `document.activeElement.ariaValueText ?? ''`)}
		}
	}
	return spoken{}
}

// The arrow keys read a chart to who does not see it, and nothing is said that
// nobody asked for.
func TestPage_Spoken(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "100")
	b := openPage(t, d.admin(), 1200, 900, "light")
	b.awaitScrapes(5)
	for id, want := range map[string]struct{ name, values string }{
		"firsts": {"Chart of first opens and first clicks a second. Arrow keys read single values.", `first opens \S+, first clicks \S+`},
		"delay":  {"Chart of the delay. Arrow keys read single values.", `99 % within .+, half within .+, in Kafka, 99 % .+, in Kafka, half .+`},
		"aside":  {"Chart of what is refused, ignored, repeated and dropped a second. Arrow keys read single values.", `refused \S+, ignored \S+, repeats \S+, dead letters \S+`},
	} {
		evaluate[any](b, `document.getElementById('`+id+`').focus()`)
		if got, want := b.spoken(), (spoken{"slider", want.name, "0", "no point chosen"}); got != want {
			t.Errorf("%s is told as %q, want %q", id, got, want)
		}
		values := regexp.MustCompile(`^(\d+) s ago: ` + want.values + `$`)
		var said []spoken
		for _, key := range []string{kb.Home, kb.End} {
			act(b, chromedp.KeyEvent(key))
			s := b.spoken()
			ago := values.FindStringSubmatch(s.text)
			if ago == nil || strings.TrimPrefix(s.value, "-") != ago[1] {
				t.Errorf("%s says %q, want %s, and the value", id, s, values)
			}
			said = append(said, s)
		}
		if said[0].value == said[1].value {
			t.Errorf("%s says %q of two points", id, said[0].text)
		}
		b.awaitScrapes(2)
		if s := b.spoken(); s != said[1] {
			t.Errorf("%s said %q, and with no key pressed %q", id, said[1], s)
		}
		act(b, chromedp.KeyEvent(kb.Escape))
		if text := b.spoken().text; text != "no point chosen" {
			t.Errorf("after Escape %s says %q", id, text)
		}
	}
}
