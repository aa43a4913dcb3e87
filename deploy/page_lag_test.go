package deploy

import (
	"strings"
	"testing"
)

// When Kafka does not answer the lag is not known, and the page does not say that
// nothing waits or that the process has no partitions.
func TestPage_KafkaAway(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "20")
	_, admin := start(t, d.joining(), mailtally, "consumer").admin(t)
	b := openPage(t, admin, 1200, 900, "light")
	b.until("the page has the lag", `document.querySelectorAll('.lag').length > 0`)
	b.drawn(b.read())

	d.stop()
	b.until("the page has no lag", `document.querySelectorAll('.lag').length === 0`)
	b.until("no event has come for a while", `document.getElementById('late-note').textContent.startsWith('none')`)
	s := b.read()
	b.drawn(s)
	for _, item := range s.Numbers {
		if item.Name == "lag" && item.Text != "–" {
			t.Errorf("a lag that is not known is shown as %q", item.Text)
		}
	}
	if !strings.Contains(s.Words, "how many wait in Kafka is not known") {
		t.Errorf("the picture's words are %q", s.Words)
	}
	for element, want := range map[string]string{
		"lags":      "No lag is known now: this process owns no partition, or Kafka does not answer.",
		"late-note": "none in the last 10 s; lag not known",
	} {
		if got := evaluate[string](b, `document.getElementById('`+element+`').textContent`); got != want {
			t.Errorf("%s is %q, want %q", element, got, want)
		}
	}
	b.checkStill()
}
