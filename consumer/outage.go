package consumer

import (
	"slices"
	"sync"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// outage tracks outages of the database, which all writers use at once. An outage starts
// when an attempt fails and no other writer has succeeded since that attempt started: a
// locked row stops one writer while the others commit to PostgreSQL. It ends with the
// next success.
type outage struct {
	mu       sync.Mutex // held while logging, to keep the lines in order
	began    time.Time
	tries    int
	answered time.Time // when it last answered
}

// databaseFailed logs once that the database is lost. A conflict or an unexpected error
// does not count as a loss.
func (c *Consumer) databaseFailed(attempt time.Time, reason string, err error) {
	lost := []string{tracking.RetryConnection, tracking.RetryTimeout, tracking.RetryResources, tracking.RetrySchema}
	if !slices.Contains(lost, reason) {
		return
	}
	o := &c.database
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answered.After(attempt) {
		return
	}
	o.tries++
	if o.tries == 1 {
		o.began = time.Now()
		c.log.Warn("database lost: retrying until it is back; nothing is dropped or committed meanwhile", "reason", reason, "error", err)
	}
}

// databaseAnswered logs that the database is back, if it was lost.
func (c *Consumer) databaseAnswered() {
	o := &c.database
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered = time.Now()
	if o.tries > 0 {
		c.log.Info("database back", "duration", since(o.began), "tries", o.tries)
		o.tries = 0
	}
}

// since formats the time since start for the log.
func since(start time.Time) string { return time.Since(start).Round(time.Millisecond).String() }
