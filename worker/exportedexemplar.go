package worker

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
)

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
