package worker

import (
	"math"

	"slices"
	"strings"
	"sync/atomic"

	"github.com/onescrape/onescrape/shmstore"
	dto "github.com/prometheus/client_model/go"
)

// maxCount is the first count that a cell of the store cannot hold.
const maxCount = 1 << 63

// usable returns a metric of the gatherer with counts that are integers, or the reason why it cannot be exported. What is
// refused before it had a value is absent from the scrape, never zero.
func (f *exportedFamily) usable(m *dto.Metric) (usable *dto.Metric, reason string) {
	const none = "a series has no value that its type can have"
	switch f.source {
	case dto.MetricType_COUNTER:
		if m.Counter == nil || !countable(m.Counter.GetValue()) {
			return nil, none
		}
	case dto.MetricType_GAUGE:
		if m.Gauge == nil {
			return nil, none
		}
	case dto.MetricType_UNTYPED:
		if m.Untyped == nil {
			return nil, none
		}
	case dto.MetricType_SUMMARY:
		if m.Summary == nil || m.Summary.GetSampleCount() >= maxCount {
			return nil, none
		}
	case dto.MetricType_HISTOGRAM:
		if m.Histogram == nil {
			return nil, none
		}
		h, ok := integerHistogram(m.Histogram)
		if !ok {
			return nil, "a histogram has a count that is not a whole number from 0 to 2^63"
		}
		if h != m.Histogram {
			return &dto.Metric{Label: m.Label, Histogram: h}, ""
		}
	}
	return m, ""
}

// integerHistogram returns a histogram whose counts are integers: h itself when it has no others. It returns false when
// a count is not a whole number, or too large for the store.
func integerHistogram(h *dto.Histogram) (whole *dto.Histogram, ok bool) {
	if !hasFloatCounts(h) {
		return h, integersFit(h)
	}
	whole = &dto.Histogram{
		SampleSum: h.SampleSum, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold,
		PositiveSpan: h.PositiveSpan, NegativeSpan: h.NegativeSpan,
	}
	ok = true
	count := func(integer uint64, float *float64) *uint64 {
		n, fits := wholeCount(integer, float)
		ok = ok && fits
		return &n
	}
	whole.SampleCount = count(h.GetSampleCount(), h.SampleCountFloat)
	whole.ZeroCount = count(h.GetZeroCount(), h.ZeroCountFloat)
	for _, b := range h.Bucket {
		whole.Bucket = append(whole.Bucket, &dto.Bucket{
			UpperBound: new(b.GetUpperBound()), Exemplar: b.GetExemplar(),
			CumulativeCount: count(b.GetCumulativeCount(), floatCount(b)),
		})
	}
	var positive, negative bool
	whole.PositiveDelta, positive = wholeDeltas(h.PositiveDelta, h.PositiveCount)
	whole.NegativeDelta, negative = wholeDeltas(h.NegativeDelta, h.NegativeCount)
	return whole, ok && positive && negative
}

// hasFloatCounts reports whether h is a float histogram.
func hasFloatCounts(h *dto.Histogram) bool {
	if h.SampleCountFloat != nil || h.ZeroCountFloat != nil || len(h.PositiveCount) > 0 || len(h.NegativeCount) > 0 {
		return true
	}
	for _, b := range h.Bucket {
		if floatCount(b) != nil {
			return true
		}
	}
	return false
}

// integersFit reports whether the store can hold the counts of h.
func integersFit(h *dto.Histogram) bool {
	if h.GetSampleCount() >= maxCount {
		return false
	}
	for _, b := range h.Bucket {
		if b.GetCumulativeCount() >= maxCount {
			return false
		}
	}
	return true
}

// floatCount returns a bucket's count of a float histogram, nil without one.
func floatCount(b *dto.Bucket) *float64 {
	if b == nil {
		return nil
	}
	return b.CumulativeCountFloat
}

// wholeCount returns the count that a float, when it is set and not 0, has in place of an integer. It returns false when
// the count is not a whole number that the store can hold.
func wholeCount(integer uint64, float *float64) (n uint64, ok bool) {
	if float == nil || *float == 0 {
		return integer, integer < maxCount
	}
	if !(*float > 0 && *float < maxCount) || *float != math.Trunc(*float) {
		return 0, false
	}
	return uint64(*float), true
}

// wholeDeltas returns the deltas of native buckets, from their counts where there are some. It returns false when a count
// is not a whole number that the store can hold.
func wholeDeltas(deltas []int64, counts []float64) (whole []int64, ok bool) {
	if len(counts) == 0 {
		return deltas, true
	}
	before := int64(0)
	for _, c := range counts {
		n, ok := wholeCount(0, &c)
		if !ok {
			return nil, false
		}
		whole = append(whole, int64(n)-before)
		before = int64(n)
	}
	return whole, true
}

// exportedExemplar is where one exemplar of an exported series is published.
type exportedExemplar struct {
	slot shmstore.ExemplarSlot // the zero one: nowhere yet
	at   int64                 // of the one that was published last; ns since 1970
}

// followExemplars publishes the exemplars that the gatherer has of a series. It comes after write, so that no exemplar is
// shown of what is not counted yet.
func (f *exportedFamily) followExemplars(s *exportedSeries, m *dto.Metric) {
	switch f.source {
	case dto.MetricType_COUNTER:
		f.exemplar(s, 0, m.Counter.Exemplar)
	case dto.MetricType_HISTOGRAM:
		i := 0
		for _, b := range m.Histogram.Bucket {
			for i < len(f.def.Bounds) && !(b.GetUpperBound() <= f.def.Bounds[i]) {
				i++
			}
			f.exemplar(s, i, b.GetExemplar())
		}
	}
}

// exemplar publishes the i-th exemplar of a series, of those that Family.ExemplarSlots counts, unless it is the one that
// was published last. One without a time, or that cannot be, is none; and where the file has no space for it the one
// before stays.
func (f *exportedFamily) exemplar(s *exportedSeries, i int, x *dto.Exemplar) {
	if x == nil || x.Timestamp == nil || s.stored == nil {
		return
	}
	at := x.GetTimestamp().AsTime().UnixNano()
	if s.exemplars == nil {
		s.exemplars = make([]exportedExemplar, f.def.ExemplarSlots())
	}
	if i >= len(s.exemplars) || at == s.exemplars[i].at {
		return
	}
	to := &s.exemplars[i]
	to.at = at
	e := shmstore.Exemplar{Value: x.GetValue(), At: at}
	for _, l := range slices.SortedFunc(slices.Values(x.Label), func(a, b *dto.LabelPair) int {
		return strings.Compare(a.GetName(), b.GetName())
	}) {
		e.Labels = shmstore.AppendExemplarLabel(e.Labels, l.GetName(), l.GetValue())
	}
	if _, ok := e.Pairs(); !ok {
		f.e.leaveOut(f.def.Name, "an exemplar has labels that it cannot have")
		return
	}
	if to.slot.Fits(len(e.Labels)) {
		to.slot.Store(&e)
	} else if slot, err := f.e.writer.StoreExemplar(s.stored, i, &e); err == nil {
		to.slot = slot
	}
}

// DefaultExportMode returns the mode of an exported gauge for which ExportOptions.Mode names none. The first line that fits
// counts:
//
//	family                               mode     why
//	go_info, go_build_info               LiveMax  1; one series for each version that runs
//	go_gc_gogc_percent                   LiveMax  a setting, not an amount
//	go_gc_gomemlimit_bytes               LiveMax  a setting; where it is "none" the sum would overflow
//	go_gc_limiter_last_enabled_gc_cycle  LiveMax  a number of a cycle
//	go_gc_stack_starting_size_bytes      LiveMax  a size of each goroutine
//	go_memstats_last_gc_time_seconds     LiveMax  a time: when one of them last collected
//	go_sched_gomaxprocs_threads          LiveSum  what all of them may use
//	process_max_fds                      LiveMax  a limit of each process
//	process_virtual_memory_max_bytes     LiveMax  a limit of each process, often infinite
//	process_start_time_seconds           LiveMin  the oldest worker's: since then somebody serves
//	process_network_…_bytes_total        LiveMax  not the process's own: the kernel counts for a network namespace,
//	                                              which all workers share; published as untyped for that
//	…_info                               LiveMax  1, by convention
//	…_timestamp_seconds                  Max      a time, by convention: that of the last event, in any worker
//	…_ratio                              LiveAvg  a share, by convention
//	any other                            LiveSum  memory, goroutines, threads, descriptors, connections, queues: each
//	                                              worker has its own, and they end with it. Sum would keep what a
//	                                              worker had when it died, and grow with every restart
//
// The sum of process_resident_memory_bytes counts memory that workers share, such as the program's text, once for each
// worker.
func DefaultExportMode(family string) GaugeMode {
	if mode, ok := standardModes[family]; ok {
		return mode
	}
	switch {
	case strings.HasSuffix(family, "_info"):
		return LiveMax
	case strings.HasSuffix(family, "_timestamp_seconds"):
		return Max
	case strings.HasSuffix(family, "_ratio"):
		return LiveAvg
	}
	return LiveSum
}

// standardModes are those of the families that client_golang's collectors of the Go runtime and of the process have and
// that do not add up.
var standardModes = map[string]GaugeMode{
	"go_gc_gogc_percent":                   LiveMax,
	"go_gc_gomemlimit_bytes":               LiveMax,
	"go_gc_limiter_last_enabled_gc_cycle":  LiveMax,
	"go_gc_stack_starting_size_bytes":      LiveMax,
	"go_memstats_last_gc_time_seconds":     LiveMax,
	"process_max_fds":                      LiveMax,
	"process_virtual_memory_max_bytes":     LiveMax,
	"process_start_time_seconds":           LiveMin,
	"process_network_receive_bytes_total":  LiveMax,
	"process_network_transmit_bytes_total": LiveMax,
}

// sharedCounters are counters of the standard collectors that several processes have as one: added up they would be too
// high by as much as there are workers.
var sharedCounters = map[string]bool{
	"process_network_receive_bytes_total":  true,
	"process_network_transmit_bytes_total": true,
}

// What a source counts is published as last + max(0, new - old): a source that starts again at zero does not lower the sum, and
// one that slips back a little, as some that compute their counters do, is not counted twice.

// resetAdjustedCount is a whole number that follows a source's.
type resetAdjustedCount struct{ total, old uint64 }

// follow takes the source's new value and reports whether that has fallen.
func (c *resetAdjustedCount) follow(v uint64) (fell bool) {
	if fell = v < c.old; !fell {
		c.total += v - c.old
	}
	c.old = v
	return fell
}

// resetAdjusted is a number that follows a source's. As long as the source does not fall it is the source's to the bit,
// because what was lost is kept, and not the differences.
type resetAdjusted struct{ total, old, lost float64 }

// follow takes the new value of a counter, which is finite.
func (c *resetAdjusted) follow(v float64) {
	if v < c.old {
		c.lost = c.total - v
	}
	c.old = v
	c.total = max(c.total, v+c.lost)
}

// followSum takes the new value of a sum of observations, which may fall; began reports whether the source has started again at
// zero.
func (c *resetAdjusted) followSum(v float64, began bool) {
	if began {
		c.lost = c.total - v
	}
	c.old = v
	if c.total = v; c.lost != 0 { // v + 0 would make 0 of -0
		c.total = v + c.lost
	}
}

// countable reports whether a counter may have this value.
func countable(v float64) bool { return v >= 0 && v <= math.MaxFloat64 }

// storeCounter makes v, which is no less than before, the value of a counter whose cells nobody else writes to. Readers
// may come at any time, so only one of the cells ever changes: the one of whole numbers until the first fraction, then
// the other. Both together are v exactly: a fraction is left only below 2^53, where the difference to a whole number
// below it has the same last bit.
func storeCounter(cells []uint64, v float64) {
	whole := atomic.LoadUint64(&cells[shmstore.CounterInteger])
	if atomic.LoadUint64(&cells[shmstore.CounterFloat]) == 0 && v <= maxInteger && v == math.Trunc(v) {
		atomic.StoreUint64(&cells[shmstore.CounterInteger], uint64(v))
		return
	}
	atomic.StoreUint64(&cells[shmstore.CounterFloat], math.Float64bits(v-float64(whole)))
}
