package deploy

import (
	"slices"
	"testing"
)

// The page's modules, run in the browser that they are for.
func TestPage_Parts(t *testing.T) {
	t.Parallel()
	d := startDev(t, nil, "-rate", "0")
	b := openPage(t, d.admin(), 1200, 900, "light")
	for _, test := range []struct {
		name, script string // a function body, which may await
		want         []string
	}{
		{"metrics are read as Prometheus writes them", `
			const { samples } = await import('/page/metrics.js');
			const text = '# HELP a b{c="d"} 1\na 1\nb{} 2\nc{x="1",y="q\\"u\\\\o\\nte}, {"} 3e+06 1712345678\nd{le="+Inf"} +Inf\nskipped 5\n\ne{z=""} -0.5';
			return [...samples(text, (name) => name !== 'skipped')].map((s) => JSON.stringify([s.name, s.labels, String(s.value)]));`,
			[]string{`["a",{},"1"]`, `["b",{},"2"]`, `["c",{"x":"1","y":"q\"u\\o\nte}, {"},"3000000"]`, `["d",{"le":"+Inf"},"Infinity"]`, `["e",{"z":""},"-0.5"]`}},
		{"members are added up, results sorted out", `
			const { read } = await import('/page/snapshot.js');
			const s = read('mailtally_webhooks_total{provider="resend",result="accepted"} 5\nmailtally_webhooks_total{provider="resend",result="unavailable"} 2\n' +
				'mailtally_events_dropped_total{member="1",reason="bad_time",type="clicked"} 3\nmailtally_events_dropped_total{member="2",reason="bad_time",type="opened"} 4\n' +
				'mailtally_event_delay_seconds_bucket{member="1",le="0.5"} 1\nmailtally_event_delay_seconds_bucket{member="2",le="0.5"} 2\n' +
				'mailtally_kafka_x_total 9\nprocess_start_time_seconds 1.5e9\n');
			const c = s.counts;
			return [c.received, c.refused, c['dropped'], c['dropped.for.bad_time'], c['dropped.clicked.for.bad_time'], s.buckets.delay.get(0.5), s.started, s.producer, s.consumer].map(String);`,
			[]string{"7", "2", "7", "7", "3", "3", "1500000000", "true", "false"}},
		{"no lag is not a lag of 0", `
			const { read } = await import('/page/snapshot.js');
			const series = (partition, lag) => 'mailtally_consumer_lag{topic="t",partition="' + partition + '"} ' + lag + '\n';
			return ['', series(0, 0), series(0, 3) + series(1, 4)].map((text) => String(read(text).lag));`,
			[]string{"null", "0", "7"}},
		{"rates and quantiles look back as far as they say", `
			const { History } = await import('/page/history.js');
			const h = new History();
			for (let i = 0; i <= 70; i++) h.add(i, { started: 1, counts: { n: i * i }, buckets: { d: new Map([[0.1, 10 * i], [1, 20 * i], [Infinity, 20 * i]]) } });
			return [h.rate('n', 0), h.rate('n', 10), h.rate('none', 10), h.quantile('d', 0.5, 10), h.quantile('d', 0.75, 60), h.quantile('none', 0.5, 10)].map(String);`,
			[]string{"139", "130", "null", "0.1", "0.55", "null"}},
		{"what is above the last bound is at least that", `
			const { History } = await import('/page/history.js');
			const h = new History();
			for (let i = 0; i < 2; i++) h.add(i, { started: 1, counts: {}, buckets: { d: new Map([[1, 0], [Infinity, 5 * i]]) } });
			return [h.quantile('d', 0.5, 10)].map(String);`,
			[]string{"1"}},
		{"a restart is no negative rate", `
			const { History } = await import('/page/history.js');
			const h = new History();
			h.add(0, { started: 1, counts: { n: 100 }, buckets: {} });
			const { restarted, apart } = h.add(1, { started: 2, counts: { n: 7 }, buckets: {} });
			const list = [restarted, apart, h.rate('n', 10)];
			h.add(2, { started: 2, counts: { n: 200 }, buckets: {} });
			return [...list, h.rate('n', 10)].map(String);`,
			[]string{"true", "true", "null", "193"}},
		{"a server's clock that is set is no restart", `
			const { History } = await import('/page/history.js');
			const h = new History();
			h.add(0, { started: 5000, counts: { n: 100, zero: 0 }, buckets: {} });
			const { restarted, apart } = h.add(1, { started: 8600, counts: { n: 150, zero: 0 }, buckets: {} });
			return [restarted, apart, h.rate('n', 10)].map(String);`,
			[]string{"false", "false", "50"}},
		{"a night asleep is as long as it was, and a clock set back changes nothing", `
			const { Clock } = await import('/page/clock.js');
			let monotonic = 50, wall = 1000;
			const clock = new Clock(() => monotonic, () => wall);
			const first = clock.now();
			return [[1, 1], [1, 1.5], [1, 30001], [1, -3600], [1, 1]].map(([m, w]) => {
				[monotonic, wall] = [monotonic + m, wall + w];
				return String(clock.now() - first);
			});`,
			[]string{"1", "2", "30003", "30004", "30005"}},
		{"after a time unseen rates begin anew", `
			const { History } = await import('/page/history.js');
			const h = new History();
			h.add(0, { started: 1, counts: { n: 0 }, buckets: {} });
			const { restarted, apart } = h.add(100, { started: 1, counts: { n: 1000 }, buckets: {} });
			return [restarted, apart, h.rate('n', 10), h.rate('n', 0)].map(String);`,
			[]string{"false", "true", "null", "null"}},
		{"numbers are written", `
			const f = await import('/page/format.js');
			return [f.count(1234567), f.count(undefined), f.rate(0), f.rate(0.004), f.rate(9.99), f.rate(9.996), f.rate(99.96), f.rate(1234.5), f.rate(null),
				f.seconds(0.0004), f.seconds(0.0099), f.seconds(0.012), f.seconds(0.9994), f.seconds(0.9996), f.seconds(99.4), f.seconds(7200), f.seconds(null),
				f.share(0, 5), f.share(5, 5), f.share(1, 1e6), f.share(999999, 1e6), f.share(1, 0), f.share(1, 8)];`,
			[]string{"1,234,567", "–", "0", "0.00", "9.99", "10.0", "100", "1,235", "–",
				"0.4 ms", "9.9 ms", "12 ms", "999 ms", "1.0 s", "99.4 s", "2 h", "–",
				"0 %", "100 %", "< 0.1 %", "> 99.9 %", "–", "12.5 %"}},
	} {
		if got := evaluate[[]string](b, "(async () => {"+test.script+"})()"); !slices.Equal(got, test.want) {
			t.Errorf("%s:\n%q, want\n%q", test.name, got, test.want)
		}
	}
}
