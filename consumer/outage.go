package consumer

import (
	"slices"
	"sync"
	"time"

	"github.com/mailtally/mailtally/tracking"
)

// outage is that of a part which others use at once, from the first failure to the
// next success.
type outage struct {
	mu    sync.Mutex
	began time.Time
	tries int
}

// fail counts a failure. isFirst says that the outage begins with it.
func (o *outage) fail() (isFirst bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	if o.tries == 1 {
		o.began = time.Now()
	}
	return o.tries == 1
}

// end ends the outage. tries is how many failures there were, 0 if there was no
// outage.
func (o *outage) end() (began time.Time, tries int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	began, tries = o.began, o.tries
	o.began, o.tries = time.Time{}, 0
	return began, tries
}

// databaseFailed logs that the database is lost, once. A conflict, and what nobody
// expects, is no loss of it.
func (c *Consumer) databaseFailed(reason string, err error) {
	lost := []string{tracking.RetryConnection, tracking.RetryTimeout, tracking.RetryResources, tracking.RetrySchema}
	if slices.Contains(lost, reason) && c.database.fail() {
		c.log.Warn("database lost: tried again until it is back, nothing is dropped or committed meanwhile", "reason", reason, "error", err)
	}
}

// databaseAnswered logs that the database is back, if it was lost.
func (c *Consumer) databaseAnswered() {
	if began, tries := c.database.end(); tries > 0 {
		c.log.Info("database back", "duration", since(began), "tries", tries)
	}
}

// since is how long ago start was, as logs say it.
func since(start time.Time) string { return time.Since(start).Round(time.Millisecond).String() }
