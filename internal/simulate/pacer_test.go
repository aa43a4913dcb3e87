package simulate

import (
	"math"
	"testing"
	"time"
)

// pace lets p send everything that is due within d, and returns the times.
func pace(p *pacer, now *time.Time, d time.Duration) []time.Time {
	var at []time.Time
	for end := now.Add(d); ; {
		p.advance(*now)
		wait := p.wait()
		if wait == 0 {
			p.spend()
			at = append(at, *now)
			continue
		}
		if now.Add(wait).After(end) {
			*now = end
			return at
		}
		*now = now.Add(wait)
	}
}

func TestPacerHoldsItsRate(t *testing.T) {
	for _, rate := range []float64{.1, 1, 7, 100, 999, 20_000} {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		p := newPacer(rate, start)
		got := len(pace(p, &now, 20*time.Second))
		// One is due at the start; one more may just not be yet.
		if want := rate*20 + 1; math.Abs(float64(got)-want) > max(1, rate/500) {
			t.Errorf("rate %v: %d in 20 s, want %v", rate, got, want)
		}
		if p.skipped != 0 {
			t.Errorf("rate %v: %v skipped without a stall", rate, p.skipped)
		}
	}
}

// After a stall the debt, up to a second of it, is paid off gradually.
func TestPacerCatchesUpGradually(t *testing.T) {
	const rate = 10_000
	for _, tt := range []struct {
		stall   time.Duration
		skipped float64
	}{
		{500 * time.Millisecond, 0},
		{5 * time.Second, 4 * rate},
	} {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		p := newPacer(rate, start)
		sent := len(pace(p, &now, time.Second))
		now = now.Add(tt.stall)
		at := pace(p, &now, 10*time.Second)
		sent += len(at)

		total := rate * (11*time.Second + tt.stall).Seconds()
		if missing := total - float64(sent); math.Abs(missing-tt.skipped) > 20 || math.Abs(p.skipped-tt.skipped) > 20 {
			t.Errorf("stall %v: %v missing and %v counted, want %v", tt.stall, missing, p.skipped, tt.skipped)
		}
		// No more than what the step and the raised rate allow in any 100 ms.
		limit := int(rate * catchUp * (maxStep + 100*time.Millisecond).Seconds())
		for i := limit + 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-limit-1]); d < 100*time.Millisecond {
				t.Fatalf("stall %v: %d within %v", tt.stall, limit+1, d)
			}
		}
	}
}

func TestPacerUnlimited(t *testing.T) {
	p := newPacer(math.Inf(1), time.Now())
	for range 1_000_000 {
		if p.wait() != 0 {
			t.Fatal("has to wait")
		}
		p.spend()
	}
	p.advance(time.Now().Add(time.Hour))
	if p.skipped != 0 || p.wait() != 0 {
		t.Errorf("skipped %v, wait %v", p.skipped, p.wait())
	}
}
