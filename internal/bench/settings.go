package main

import (
	"context"
	"fmt"
)

const settingsPartText = `
What a setting of PostgreSQL does to the write path: the stream of the part growth into a fresh server, %s deliveries, of which the first million is not in the figures. "As here" has the settings of all parts; each other row changes what it says. The final counts are checked.

%s`

// setting is one that is changed.
type setting struct {
	name  string
	extra map[string]string
}

// changedSettings are those that an operator thinks of.
func changedSettings() []setting {
	return []setting{
		{"as here", nil},
		{"shared_buffers = 128MB (the default)", map[string]string{"shared_buffers": "128MB"}},
		{"max_wal_size = 1GB, min_wal_size = 80MB (the defaults)", map[string]string{"max_wal_size": "1GB", "min_wal_size": "80MB"}},
		{"wal_compression = off (the default)", map[string]string{"wal_compression": "off"}},
		{"all three of these", map[string]string{"max_wal_size": "1GB", "min_wal_size": "80MB", "wal_compression": "off"}},
		{"synchronous_commit = off (a crash loses the last commits)", map[string]string{"synchronous_commit": "off"}},
	}
}

// measureSettings measures what settings are worth.
func measureSettings(ctx context.Context, b *bench) error {
	upTo := 4 * growthStep
	if b.full {
		upTo = 8 * growthStep
	}
	list := changedSettings()
	rows := make([]row, len(list))
	for round := range b.rounds {
		for i := range list {
			i = (i + round) % len(list)
			g, err := b.grow(ctx, growthRun{name: fmt.Sprintf("settings-%d-%d", round, i), upTo: upTo, extra: list[i].extra})
			if err != nil {
				return fmt.Errorf("%s: %w", list[i].name, err)
			}
			r := g.ours.row(1, upTo/growthStep)
			rows[i].Name = list[i].name
			rows[i].measured(rate, "", r.last(rate))
			rows[i].measured(wal, "", r.last(wal))
		}
	}
	for i := range rows[1:] {
		rows[i+1].ratio("× as here", rate, &rows[0])
	}
	b.report.add(table{Part: "settings", Title: "what PostgreSQL's settings are worth", Rows: rows,
		Text: fmt.Sprintf(settingsPartText, millions(upTo), settingsText)})
	return nil
}
