package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// bar is one bar of a chart.
type bar struct {
	name  string
	value float64
	label string // beside the bar; the value if empty
	own   bool   // mailtally's, which stands out
}

// chart has a bar chart in the report, under name.svg: horizontal bars from
// zero, in a size and in colours that a README's page shows well, by day and by
// night, and that a colour-blind reader tells apart by their lightness. Bars
// without a value are left out, and so is a chart that has no others.
func (r *report) chart(name, title string, bars []bar) {
	const width, left, right, top, height = 720, 250, 110, 34, 22
	bars = slices.DeleteFunc(slices.Clone(bars), func(b bar) bool { return math.IsNaN(b.value) || math.IsInf(b.value, 0) })
	most := 0.0
	for _, b := range bars {
		most = math.Max(most, b.value)
	}
	if most == 0 {
		return
	}
	var s strings.Builder
	total := top + height*len(bars) + 6
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>text{font:13px sans-serif;fill:#1f2328}.t{font-weight:600}.b{fill:#9aa4af}.o{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.b{fill:#6e7681}.o{fill:#58a6ff}}</style>
<text class="t" x="0" y="16">%s</text>
`, width, total, width, total, html.EscapeString(title), html.EscapeString(title))
	for i, b := range bars {
		label, class := b.label, "b"
		if label == "" {
			label = number(b.value)
		}
		if b.own {
			class = "o"
		}
		y := top + height*i
		w := math.Max(1, b.value/most*(width-left-right))
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d">%s</text>
`, left-8, y+14, html.EscapeString(b.name), class, left, y+2, w, height-6, float64(left)+w+6, y+14, html.EscapeString(label))
	}
	s.WriteString("</svg>\n")
	r.charts[name+".svg"] = s.String()
}
