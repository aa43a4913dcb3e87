package consumer

import (
	"slices"
	"sync"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// outage is that of the database, which all writers use at once. It begins when an
// attempt fails that no other writer's success has contradicted since it began: a
// locked row stops one writer, while the others commit. It ends with the next success.
type outage struct {
	mu       sync.Mutex // held while a line is written, so that they are in order
	began    time.Time
	tries    int
	answered time.Time // last
}

// databaseFailed logs that the database is lost, once. A conflict, and what nobody
// expects, is no loss of it.
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
		c.log.Warn("database lost: tried again until it is back, nothing is dropped or committed meanwhile", "reason", reason, "error", err)
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

// since is how long ago start was, as logs say it.
func since(start time.Time) string { return time.Since(start).Round(time.Millisecond).String() }
