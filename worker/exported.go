package worker

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	"github.com/onescrape/onescrape/shmstore"
)

// exportedFamily is a family of a gatherer and what is published of it. The exporter's lock protects it.
type exportedFamily struct {
	e      *exporter
	source dto.MetricType
	def    shmstore.Family // without labels, which the series have
	out    bool            // is left out for good

	ids    map[string]uint32          // of definitions in the file, by label names
	series map[string]*exportedSeries // by key
	order  []*exportedSeries          // as the gatherer had them, nil for those that cannot be
	lines  *exportedFamily            // of a summary, its quantile lines
}

// exportedSeries is a series of a gatherer: what it has come to, and where that is published.
type exportedSeries struct {
	key    string
	names  []string // ascending
	values []string
	round  uint64 // in which it was last gathered

	value  resetAdjusted        // of a counter; of a histogram or summary its sum
	counts []resetAdjustedCount // of a histogram each bucket, not cumulative; of a summary the count
	gauge  float64
	set    bool // gauge was set
	lines  []*exportedSeries

	exemplars []exportedExemplar // of a counter or histogram; nil: none yet
	native    *exportedNative    // of a histogram that has native buckets
	announced bool               // store was called, which is after the first value
	stored    *shmstore.Series   // nil: not in the file
	overflow  bool               // the file had no space for it
}

// sourceTypes are the families that can be exported.
var sourceTypes = map[dto.MetricType]shmstore.Type{
	dto.MetricType_COUNTER:   shmstore.CounterType,
	dto.MetricType_GAUGE:     shmstore.GaugeType,
	dto.MetricType_UNTYPED:   shmstore.UntypedType,
	dto.MetricType_HISTOGRAM: shmstore.HistogramType,
	dto.MetricType_SUMMARY:   shmstore.SummaryType,
}

// take publishes a family that was gathered.
func (e *exporter) take(mf *dto.MetricFamily) {
	name := mf.GetName()
	f := e.families[name]
	if f == nil {
		f = e.newFamily(mf)
		e.families[name] = f
	}
	if f.out {
		return
	}
	if reason := e.claim(name); reason != "" {
		f.leave(reason)
		return
	}
	if mf.GetType() != f.source {
		e.leaveOut(name, "its type has changed")
		return
	}
	f.order = f.order[:min(len(f.order), len(mf.Metric))]
	for i, m := range mf.Metric {
		if i == len(f.order) {
			f.order = append(f.order, nil)
		}
		if m == nil {
			continue
		}
		m, reason := f.usable(m)
		if reason != "" {
			e.leaveOut(name, reason)
			continue
		}
		s := f.order[i]
		if s == nil || !s.has(m.GetLabel()) {
			if s = f.find(m.GetLabel()); s == nil {
				continue
			}
			f.order[i] = s
		}
		if s.round == e.round {
			e.leaveOut(name, "a series is there twice")
			continue
		}
		s.round = e.round
		f.follow(s, m)
		f.write(s)
		f.followExemplars(s, m)
	}
}

// newFamily decides what becomes of a family that is gathered for the first time.
func (e *exporter) newFamily(mf *dto.MetricFamily) *exportedFamily {
	name := mf.GetName()
	f := &exportedFamily{e: e, source: mf.GetType(), series: map[string]*exportedSeries{}, ids: map[string]uint32{}}
	typ, known := sourceTypes[f.source]
	f.def = shmstore.Family{Name: name, Help: fitting(mf.GetHelp(), shmstore.MaxHelp), Unit: fitting(mf.GetUnit(), shmstore.MaxName), Type: typ}
	switch {
	case e.options.Skip != nil && e.options.Skip(name):
		f.out = true
	case !model.UTF8Validation.IsValidMetricName(name):
		f.leave("its name is not valid")
	case !known:
		f.leave("there is no such type in the store: " + f.source.String())
	case f.source == dto.MetricType_HISTOGRAM:
		f.def.Bounds, f.def.Native = unionOfBounds(mf.Metric), nativeOf(mf.Metric)
	case f.source == dto.MetricType_SUMMARY:
		lines := f.def
		lines.Type, lines.Mode, lines.QuantileLines = shmstore.GaugeType, LiveMax, true
		f.lines = &exportedFamily{e: e, def: lines, series: map[string]*exportedSeries{}, ids: map[string]uint32{}}
	case f.source == dto.MetricType_COUNTER && !sharedCounters[name]:
	default:
		if f.source == dto.MetricType_COUNTER {
			f.def.Type = shmstore.UntypedType
		}
		if e.options.Mode != nil {
			f.def.Mode = e.options.Mode(name, f.source)
		}
		if f.def.Mode.String() == "" || f.def.Mode == 0 {
			f.def.Mode = DefaultExportMode(name)
		}
	}
	return f
}

// fitting returns a text as a file can hold it: valid, and of at most so many bytes.
func fitting(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "\ufffd")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// maxExportedBounds is how many buckets an exported histogram keeps.
const maxExportedBounds = 1024

// unionOfBounds returns the bounds of all buckets that a family's histograms have, but for +Inf. Too many of them are
// thinned out.
func unionOfBounds(metrics []*dto.Metric) []float64 {
	var all []float64
	for _, m := range metrics {
		for _, b := range m.GetHistogram().GetBucket() {
			if v := b.GetUpperBound(); !math.IsNaN(v) && !math.IsInf(v, 1) {
				all = append(all, v)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for len(all) > maxExportedBounds {
		for i := 0; 2*i+1 < len(all); i++ {
			all[i] = all[2*i+1]
		}
		all = all[:len(all)/2]
	}
	return slices.Clip(all)
}

// leave ends the export of a family. Its gauges go; the rest has counted and stays.
func (f *exportedFamily) leave(reason string) {
	f.out = true
	f.order = nil
	f.sweepAll(func(*exportedSeries) bool { return true })
	f.e.leaveOut(f.def.Name, reason)
}

// has reports whether a series has just these labels, in ascending order.
func (s *exportedSeries) has(labels []*dto.LabelPair) bool {
	if len(labels) != len(s.names) {
		return false
	}
	for i, l := range labels {
		if l.GetValue() != s.values[i] || l.GetName() != s.names[i] {
			return false
		}
	}
	return true
}

// find returns the series of these labels and makes it if it does not exist; nil: these labels are not valid.
func (f *exportedFamily) find(labels []*dto.LabelPair) *exportedSeries {
	sorted := slices.SortedFunc(slices.Values(labels), func(a, b *dto.LabelPair) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	names, values := make([]string, len(sorted)), make([]string, len(sorted))
	for i, l := range sorted {
		names[i], values[i] = strings.Clone(l.GetName()), strings.Clone(l.GetValue())
		if reason := f.refuses(names[:i], names[i], values[i]); reason != "" {
			f.e.leaveOut(f.def.Name, reason)
			return nil
		}
	}
	return f.get(names, values)
}

// refuses says why a series cannot have a label, whose name comes after the others.
func (f *exportedFamily) refuses(before []string, name, value string) string {
	switch {
	case !model.UTF8Validation.IsValidLabelName(name), strings.HasPrefix(name, model.ReservedLabelPrefix),
		f.def.Type == shmstore.HistogramType && name == bucketLabel,
		f.def.Type == shmstore.SummaryType && name == quantileLabel:
		return "a series has a label that is not valid or reserved: " + name
	case len(before) > 0 && before[len(before)-1] == name:
		return "a series has a label twice: " + name
	case !utf8.ValidString(value):
		return "a label's value is not UTF-8: " + name
	}
	return ""
}

// get returns the series of these labels and makes it if it does not exist. It may keep the labels. The file gets the series by
// the first write, with its value.
func (f *exportedFamily) get(names, values []string) *exportedSeries {
	key := namesKey(names) + "\xff" + namesKey(values)
	s := f.series[key]
	if s == nil {
		s = &exportedSeries{key: key, names: names, values: values}
		switch f.def.Type {
		case shmstore.HistogramType:
			s.counts = make([]resetAdjustedCount, len(f.def.Bounds)+1)
			if f.def.Native != nil {
				s.native = newExportedNative(f)
			}
		case shmstore.SummaryType:
			s.counts = make([]resetAdjustedCount, 1)
		}
		f.series[key] = s
	}
	return s
}

// namesKey is different for different lists of valid strings.
func namesKey(names []string) string { return strings.Join(names, "\xfe") }

// follow takes over what the gatherer has of a series, which is usable.
func (f *exportedFamily) follow(s *exportedSeries, m *dto.Metric) {
	switch f.source {
	case dto.MetricType_COUNTER:
		v := m.GetCounter().GetValue()
		s.value.follow(v)
		f.set(s, v) // where it is published as one
	case dto.MetricType_GAUGE:
		f.set(s, m.GetGauge().GetValue())
	case dto.MetricType_UNTYPED:
		f.set(s, m.GetUntyped().GetValue())
	case dto.MetricType_HISTOGRAM:
		f.followHistogram(s, m.Histogram)
	case dto.MetricType_SUMMARY:
		began := s.counts[0].follow(m.Summary.GetSampleCount())
		s.value.followSum(m.Summary.GetSampleSum(), began)
		f.followLines(s, m.Summary.GetQuantile())
	}
}

// set takes over the value of a gauge. A timed one keeps its time as long as its value does not change.
func (f *exportedFamily) set(s *exportedSeries, v float64) {
	same := s.set && math.Float64bits(s.gauge) == math.Float64bits(v)
	s.gauge, s.set = v, true
	if f.def.Mode.Base() == MostRecent && !same && s.stored != nil {
		shmstore.StoreTimed(s.stored.Cells, v, shmstore.Monotonic())
	}
}

func (f *exportedFamily) followHistogram(s *exportedSeries, h *dto.Histogram) {
	bounds := f.def.Bounds
	counts := append(f.e.counts[:0], make([]uint64, len(bounds)+1)...)
	f.e.counts = counts
	below, i := uint64(0), 0
	for _, b := range h.GetBucket() {
		for i < len(bounds) && !(b.GetUpperBound() <= bounds[i]) {
			i++
		}
		if n := b.GetCumulativeCount(); n > below {
			counts[i] += n - below
			below = n
		}
	}
	if n := h.GetSampleCount(); n > below {
		counts[len(bounds)] += n - below
	}
	began := false
	if s.native != nil {
		// What is beyond the last bound, too, is in native buckets; the last cell has what is in none.
		began = s.native.follow(h)
		counts = counts[:len(bounds)]
	}
	for i, n := range counts {
		if s.counts[i].follow(n) {
			began = true
		}
	}
	s.value.followSum(h.GetSampleSum(), began)
}

// followLines takes over the quantile lines of a summary.
func (f *exportedFamily) followLines(s *exportedSeries, quantiles []*dto.Quantile) {
	for i, q := range quantiles {
		if i == len(s.lines) {
			s.lines = append(s.lines, nil)
		}
		label := model.SampleValue(q.GetQuantile()).String()
		at, _ := slices.BinarySearch(s.names, quantileLabel)
		if line := s.lines[i]; line == nil || line.values[at] != label {
			s.lines[i] = f.lines.get(slices.Insert(slices.Clone(s.names), at, quantileLabel),
				slices.Insert(slices.Clone(s.values), at, label))
		}
		line := s.lines[i]
		line.round = f.e.round
		f.lines.set(line, q.GetValue())
		f.lines.write(line)
	}
	s.lines = s.lines[:len(quantiles)]
}

// write publishes what a series has come to. Readers may come between any two stores.
func (f *exportedFamily) write(s *exportedSeries) {
	switch {
	case !s.announced:
		f.store(s)
	case s.stored != nil:
		f.writeCells(s, s.stored.Cells)
	}
}

// writeCells writes all values of a series but native buckets, and but a timed gauge, which set writes.
func (f *exportedFamily) writeCells(s *exportedSeries, cells []uint64) {
	switch f.def.Type {
	case shmstore.CounterType:
		storeCounter(cells, s.value.total)
	case shmstore.HistogramType:
		if s.native != nil {
			s.counts[len(f.def.Bounds)] = s.native.nans
		}
		for i := range s.counts {
			atomic.StoreUint64(&cells[shmstore.HistogramBuckets+i], s.counts[i].total)
		}
		atomic.StoreUint64(&cells[shmstore.HistogramSum], math.Float64bits(s.value.total))
	case shmstore.SummaryType:
		atomic.StoreUint64(&cells[shmstore.SummaryCount], s.counts[0].total)
		atomic.StoreUint64(&cells[shmstore.SummarySum], math.Float64bits(s.value.total))
	default:
		if s.set && f.def.Mode.Base() != MostRecent {
			atomic.StoreUint64(&cells[0], shmstore.GaugeWord(s.gauge))
		}
	}
}

// begin writes all values of a series to cells that nobody reads yet.
func (f *exportedFamily) begin(s *exportedSeries, cells []uint64) {
	f.writeCells(s, cells)
	if f.def.Mode.Base() == MostRecent && s.set {
		shmstore.StoreTimed(cells, s.gauge, shmstore.Monotonic())
	}
	if s.native != nil {
		s.native.moveTo(cells)
	}
}

// store makes room for a series in the file, or counts it as one that got none. No reader sees the series without its
// value.
func (f *exportedFamily) store(s *exportedSeries) {
	s.announced = true
	labels := namesKey(s.names)
	id, ok := f.ids[labels]
	var err error
	if !ok {
		def := f.def
		def.Labels = s.names
		if id, err = f.e.writer.AddFamily(def); err == nil {
			f.ids[labels] = id
		}
	}
	if err == nil {
		s.stored, err = f.e.writer.AddSeriesWith(id, s.values, time.Now(), func(cells []uint64) { f.begin(s, cells) })
	}
	if err != nil {
		s.stored, s.overflow = nil, true
		f.e.registry.exportOverflow(f.e.writer, f.def.Name, err)
		if s.native != nil {
			s.native.moveTo(memoryCells(f.def.Words()))
		}
	}
}

// exportOverflow counts a series that got no space, or, with a nil error, one fewer.
func (r *registry) exportOverflow(w *shmstore.Writer, metric string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.binding.writer != w {
		return
	}
	if err == nil {
		r.setOverflow(r.binding.overflow - 1)
		return
	}
	r.setOverflow(r.binding.overflow + 1)
	r.once("overflow", func() {
		r.log.Error("the store did not take a series: it is missing in the scrape, as others may; "+
			"onescrape_store_overflow_series counts them", "store", r.binding.dir.Path(), "metric", metric, "error", err)
	})
}

// moved writes all series to the exporter's new file.
func (f *exportedFamily) moved() {
	clear(f.ids)
	for _, s := range f.series {
		s.stored, s.overflow, s.exemplars = nil, false, nil
		f.store(s)
	}
	if f.lines != nil {
		f.lines.moved()
	}
}

// sweep takes out what the gatherer no longer has.
func (f *exportedFamily) sweep() {
	f.sweepAll(func(s *exportedSeries) bool { return s.round != f.e.round })
}

func (f *exportedFamily) sweepAll(over func(*exportedSeries) bool) {
	if f.lines != nil {
		f.lines.sweepAll(over)
		for _, s := range f.series {
			s.lines = slices.DeleteFunc(s.lines, over)
		}
	}
	if f.def.Mode == 0 {
		return
	}
	maps.DeleteFunc(f.series, func(_ string, s *exportedSeries) bool {
		if !over(s) {
			return false
		}
		switch {
		case s.stored != nil:
			f.e.writer.Delete(s.stored)
			f.e.writer.Released(s.stored)
		case s.overflow:
			f.e.registry.exportOverflow(f.e.writer, f.def.Name, nil)
		}
		return true
	})
	f.order = slices.DeleteFunc(f.order, func(s *exportedSeries) bool { return s != nil && over(s) })
}
