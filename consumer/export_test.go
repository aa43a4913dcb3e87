package consumer

import "context"

// MeasureLag asks for the lag now, for tests that cannot wait for the next time.
func (c *Consumer) MeasureLag(ctx context.Context) { c.measureLag(ctx) }
