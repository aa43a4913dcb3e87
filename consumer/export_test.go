package consumer

import "context"

// MeasureLag measures the lag now, for tests that cannot wait for the next interval.
func (c *Consumer) MeasureLag(ctx context.Context) { c.measureLag(ctx) }

// FoundLost is the number of records that the member has found lost and not counted
// yet.
func (c *Consumer) FoundLost() (records int64) {
	c.positions.mu.Lock()
	defer c.positions.mu.Unlock()
	for _, at := range c.positions.of {
		for _, g := range at.lost {
			records += g.to - g.from
		}
	}
	return records
}

// LoseOne loses an event that waits for its writer, if there is one.
func (c *Consumer) LoseOne() (lost bool) {
	return c.inject(func(items []item) []item { return items[:len(items)-1] })
}

// DoubleOne duplicates an event that waits for its writer, if there is one.
func (c *Consumer) DoubleOne() (doubled bool) {
	return c.inject(func(items []item) []item { return append(items, items[len(items)-1]) })
}

// inject changes the share that a writer would take next, if one is waiting.
func (c *Consumer) inject(defect func([]item) []item) bool {
	for _, w := range c.writers {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.waiting) > 0 {
			c.window.mu.Lock()
			defer c.window.mu.Unlock()
			w.waiting[0].items = defect(w.waiting[0].items)
			return true
		}
	}
	return false
}
