package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metricFamilies are what /metrics answered, by name.
type metricFamilies map[string]*dto.MetricFamily

// scrape reads the member's metrics in the format that has native histograms.
func (m *member) scrape(ctx context.Context) (metricFamilies, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", request.URL, response.Status)
	}
	families := make(metricFamilies)
	decoder := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header))
	for {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", request.URL, err)
		}
		families[family.GetName()] = &family
	}
}

// sum adds up all series of a counter.
func (f metricFamilies) sum(name string) (total float64) {
	for _, m := range f[name].GetMetric() {
		total += m.GetCounter().GetValue()
	}
	return total
}

// histogram gives one without labels.
func (f metricFamilies) histogram(name string) (*dto.Histogram, error) {
	series := f[name].GetMetric()
	if len(series) != 1 || series[0].GetHistogram() == nil {
		return nil, fmt.Errorf("no histogram %s without labels", name)
	}
	return series[0].GetHistogram(), nil
}

// native gives a native histogram without labels.
func (f metricFamilies) native(name string) (nativeHistogram, error) {
	h, err := f.histogram(name)
	if err != nil {
		return nativeHistogram{}, err
	}
	if h.Schema == nil {
		return nativeHistogram{}, fmt.Errorf("%s is no native histogram", name)
	}
	n := nativeHistogram{schema: h.GetSchema(), zero: int64(h.GetZeroCount()), buckets: make(map[int32]int64)}
	index, count, k := int32(0), int64(0), 0
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count += h.GetPositiveDelta()[k]
			n.buckets[index] = count
			index++
			k++
		}
	}
	return n, nil
}

// nativeHistogram counts by buckets of which each ends 2^2^-schema times above
// the one before: bucket 0 ends at 1.
// https://prometheus.io/docs/specs/native_histograms/
type nativeHistogram struct {
	schema  int32
	zero    int64
	buckets map[int32]int64
}

// coarser has each bucket hold so many doublings of the number of those it held.
func (h nativeHistogram) coarser(schema int32) nativeHistogram {
	by := h.schema - schema
	c := nativeHistogram{schema: schema, zero: h.zero, buckets: make(map[int32]int64)}
	for i, n := range h.buckets {
		c.buckets[(i+1<<by-1)>>by] += n
	}
	return c
}

// minus is what was counted since o. (A client makes the buckets coarser when
// there are too many.)
func (h nativeHistogram) minus(o nativeHistogram) nativeHistogram {
	schema := min(h.schema, o.schema)
	h, o = h.coarser(schema), o.coarser(schema)
	h.zero -= o.zero
	for i, n := range o.buckets {
		h.buckets[i] -= n
	}
	return h
}

// count is the number of all values.
func (h nativeHistogram) count() int64 {
	total := h.zero
	for _, n := range h.buckets {
		total += n
	}
	return total
}

// quantile supposes that values are spread evenly, by their logarithms, over a
// bucket.
func (h nativeHistogram) quantile(q float64) float64 {
	least, most, total := int32(math.MaxInt32), int32(math.MinInt32), h.count()
	for i := range h.buckets {
		least, most = min(least, i), max(most, i)
	}
	rank := q * float64(total)
	below := float64(h.zero)
	if total == 0 {
		return math.NaN()
	}
	if rank <= below {
		return 0
	}
	width := math.Exp2(-float64(h.schema)) // of a bucket, in powers of two
	for i := least; i <= most; i++ {
		n := float64(h.buckets[i])
		if below+n >= rank {
			return math.Exp2((float64(i-1) + (rank-below)/n) * width)
		}
		below += n
	}
	return math.Exp2(float64(most) * width)
}
