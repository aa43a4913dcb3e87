package simulate

import (
	"math"
	"time"
)

const (
	// maxDebt bounds what is made up for: what fell due while the receiver, or this
	// process, was stalled for longer is skipped.
	maxDebt = time.Second
	// catchUp is the pace of catching up, as a multiple of the rate.
	catchUp = 1.25
	// maxStep bounds how much is sent back to back, as time at that pace.
	maxStep = 10 * time.Millisecond
	// minWait keeps high rates from setting a timer for every webhook.
	minWait = time.Millisecond
)

// pacer says when the next webhook is due. It is open-loop: webhooks fall due at the
// rate, whatever the receiver does. It is two token buckets, one for the rate, a second
// deep, and one for the peak, a quarter above the rate and 10 ms deep: so after a stall
// of half a second the rate is 1.25 times its value for two seconds, and there is never
// a burst.
type pacer struct {
	rate    float64 // webhooks a second; +Inf for no pacing
	last    time.Time
	owed    float64
	allowed float64
	skipped float64 // fell due and were given up
}

func newPacer(rate float64, start time.Time) *pacer {
	return &pacer{rate: rate, last: start, owed: 1, allowed: 1}
}

// advance accounts for the time until now.
func (p *pacer) advance(now time.Time) {
	if math.IsInf(p.rate, 1) {
		return
	}
	passed := now.Sub(p.last).Seconds()
	p.last = now
	p.owed += passed * p.rate
	// One more than the debt, so that at low rates a slightly late timer loses nothing.
	if over := p.owed - (1 + p.rate*maxDebt.Seconds()); over > 0 {
		p.owed -= over
		p.skipped += over
	}
	peak := p.rate * catchUp
	p.allowed = min(p.allowed+passed*peak, max(1, peak*maxStep.Seconds()))
}

// wait returns the least time until a webhook is due: 0 if one is due now.
func (p *pacer) wait() time.Duration {
	if math.IsInf(p.rate, 1) || p.owed >= 1 && p.allowed >= 1 {
		return 0
	}
	seconds := max((1-p.owed)/p.rate, (1-p.allowed)/(p.rate*catchUp))
	// Rounded up, so that rounding never causes a second wait for the last nanosecond.
	return max(time.Duration(seconds*float64(time.Second))+1, minWait)
}

// spend takes the webhook that wait found due.
func (p *pacer) spend() {
	if math.IsInf(p.rate, 1) {
		return
	}
	p.owed--
	p.allowed--
}
