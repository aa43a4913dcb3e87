package consumer

import "context"

// MeasureLag asks for the lag now, for tests that cannot wait for the next time.
func (c *Consumer) MeasureLag(ctx context.Context) { c.measureLag(ctx) }

// FoundLost is how many records the member has found lost and not counted yet.
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
