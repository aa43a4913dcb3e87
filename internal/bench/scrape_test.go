package main

import (
	"maps"
	"math"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// counted is a native histogram of values.
func counted(schema int32, values []float64) nativeHistogram {
	h := nativeHistogram{schema: schema, buckets: make(map[int32]int64)}
	for _, v := range values {
		if v == 0 {
			h.zero++
			continue
		}
		h.buckets[int32(math.Ceil(math.Log2(v)*math.Exp2(float64(schema))))]++
	}
	return h
}

// samples are delays from 1 ms to 1 s, and one in ten is 0.
func samples(n int) (values []float64) {
	for i := range n {
		v := math.Pow(10, -3*float64(i*7919%n)/float64(n))
		if i%10 == 0 {
			v = 0
		}
		values = append(values, v)
	}
	return values
}

func same(a, b nativeHistogram) bool {
	full := func(h nativeHistogram) map[int32]int64 {
		h.buckets = maps.Clone(h.buckets)
		maps.DeleteFunc(h.buckets, func(_ int32, n int64) bool { return n == 0 })
		return h.buckets
	}
	return a.schema == b.schema && a.zero == b.zero && maps.Equal(full(a), full(b))
}

func TestNativeHistogramCoarser(t *testing.T) {
	values := samples(10_000)
	for schema := int32(3); schema >= -1; schema-- {
		if got, want := counted(3, values).coarser(schema), counted(schema, values); !same(got, want) {
			t.Errorf("schema %d: %+v, want %+v", schema, got, want)
		}
	}
}

// What was counted since is the same, whichever of the two had become coarser.
func TestNativeHistogramMinus(t *testing.T) {
	values := samples(10_000)
	early, late := values[:3_000], values[3_000:]
	for _, schema := range []struct{ all, early, want int32 }{{3, 3, 3}, {2, 3, 2}, {3, 1, 1}} {
		got, want := counted(schema.all, values).minus(counted(schema.early, early)), counted(schema.want, late)
		if !same(got, want) {
			t.Errorf("%+v: %+v, want %+v", schema, got, want)
		}
		if got.count() != int64(len(late)) {
			t.Errorf("%+v: %d values, want %d", schema, got.count(), len(late))
		}
	}
}

func TestNativeHistogramQuantile(t *testing.T) {
	values := samples(10_000)
	sorted := slices.Sorted(slices.Values(values))
	h := counted(3, values)
	for _, q := range []float64{.05, .2, .5, .9, .99, .999, 1} {
		got, want := h.quantile(q), sorted[int(q*float64(len(sorted)))-1]
		// Within the bucket.
		if want == 0 && got != 0 || want > 0 && math.Abs(math.Log2(got/want)) > 1.0/8 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if got := counted(3, nil).quantile(.5); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %g", got)
	}
}

// Buckets come in spans, each with its distance from the one before, and counts
// as what they differ by.
func TestNativeHistogramFromItsWireFormat(t *testing.T) {
	schema, zero := int32(3), uint64(4)
	offset, length := []int32{-2, 3}, []uint32{2, 1}
	family := &dto.MetricFamily{Metric: []*dto.Metric{{Histogram: &dto.Histogram{
		Schema: &schema, ZeroCount: &zero,
		PositiveSpan:  []*dto.BucketSpan{{Offset: &offset[0], Length: &length[0]}, {Offset: &offset[1], Length: &length[1]}},
		PositiveDelta: []int64{5, -2, 4},
	}}}}
	got, err := metricFamilies{"delay": family}.native("delay")
	want := nativeHistogram{schema: 3, zero: 4, buckets: map[int32]int64{-2: 5, -1: 3, 3: 7}}
	if err != nil || !same(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := (metricFamilies{}).native("delay"); err == nil {
		t.Error("a histogram that is not there is no error")
	}
}
