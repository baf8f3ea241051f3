package worker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/shmstore"
)

// exemplars are those of one series: a counter's one, a histogram's one of each bucket. They are made with the first
// one, for most series never have any.
type exemplars struct {
	mu     sync.Mutex
	slots  []shmstore.ExemplarSlot // the zero one: none yet
	writer *shmstore.Writer        // nil: they are in process memory
	stored *shmstore.Series        // in writer's file
	retry  int64                   // when to ask the file for space again, ns since 1970; 0: it was never refused
}

// retryAfter is for how long a file that had no space for an exemplar is not asked for some again.
const retryAfter = 10 * time.Second

// exemplar keeps labels as the series' i-th exemplar, of the value v, which was counted already. It panics, in
// client_golang's words, when these cannot be an exemplar's labels; nil is no exemplar. Where the file has no space
// left the exemplar before stays.
func (s *series) exemplar(i int, v float64, labels prometheus.Labels) {
	if labels == nil {
		return
	}
	var buf [shmstore.MaxExemplarLabels]byte
	e := shmstore.Exemplar{Value: v, Labels: appendExemplar(buf[:0], labels), At: time.Now().UnixNano()}
	x := s.exemplars.Load()
	if x == nil {
		x = s.newExemplars()
	}
	x.mu.Lock()
	x.put(i, &e)
	x.mu.Unlock()
}

// appendExemplar appends checked labels in ascending order of their names.
func appendExemplar(b []byte, labels prometheus.Labels) []byte {
	var few [8]string
	names := few[:0]
	runes := 0
	for name, value := range labels {
		if !model.UTF8Validation.IsValidLabelName(name) || strings.HasPrefix(name, model.ReservedLabelPrefix) {
			panic(fmt.Errorf("exemplar label name %q is invalid", strings.Clone(name)))
		}
		if !utf8.ValidString(value) {
			panic(fmt.Errorf("exemplar label value %q is not valid UTF-8", strings.Clone(value)))
		}
		runes += utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
		names = append(names, name)
	}
	if runes > prometheus.ExemplarMaxRunes {
		panic(fmt.Errorf("exemplar labels have %d runes, exceeding the limit of %d", runes, prometheus.ExemplarMaxRunes))
	}
	slices.Sort(names)
	for _, name := range names {
		b = shmstore.AppendExemplarLabel(b, name, labels[name])
	}
	return b
}

// newExemplars makes the series' exemplars, unless another goroutine was first.
func (s *series) newExemplars() *exemplars {
	r := s.def.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := s.exemplars.Load(); x != nil {
		return x
	}
	x := &exemplars{slots: make([]shmstore.ExemplarSlot, s.def.family.ExemplarSlots())}
	// Nobody will read those of a series that was deleted.
	if s.stored != nil && s.def.table.Load().find(s.hash, s.values) == s {
		x.writer, x.stored = r.binding.writer, s.stored
	}
	s.exemplars.Store(x)
	return x
}

// put stores e. The caller holds the lock.
func (x *exemplars) put(i int, e *shmstore.Exemplar) {
	slot := &x.slots[i]
	switch {
	case slot.Fits(len(e.Labels)):
		slot.Store(e)
	case x.writer == nil:
		*slot = shmstore.NewExemplarSlot(len(e.Labels))
		slot.Store(e)
	case e.At >= x.retry:
		if made, err := x.writer.StoreExemplar(x.stored, i, e); err == nil {
			*slot = made
		} else {
			x.retry = e.At + int64(retryAfter)
		}
	}
}

// moveExemplars brings them to where the series is now: to its file, or where it has none to process memory. The caller
// holds the registry's lock.
func (s *series) moveExemplars() {
	x := s.exemplars.Load()
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	from := x.slots
	x.slots, x.retry = make([]shmstore.ExemplarSlot, len(from)), 0
	x.writer, x.stored = nil, s.stored
	if s.stored != nil {
		x.writer = s.def.registry.binding.writer
	}
	var buf [shmstore.MaxExemplarLabels]byte
	for i := range from {
		if e, ok := from[i].Load(buf[:]); ok {
			x.put(i, &e)
		}
	}
}

// exemplarOf returns the i-th exemplar as client_golang shows it, nil when there is none.
func (s *series) exemplarOf(i int) *dto.Exemplar {
	x := s.exemplars.Load()
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var buf [shmstore.MaxExemplarLabels]byte
	e, ok := x.slots[i].Load(buf[:])
	if !ok {
		return nil
	}
	pairs, _ := e.Pairs()
	out := &dto.Exemplar{Value: new(e.Value), Timestamp: timestamppb.New(time.Unix(0, e.At)), Label: []*dto.LabelPair{}}
	for i := 0; i < len(pairs); i += 2 {
		out.Label = append(out.Label, &dto.LabelPair{Name: &pairs[i], Value: &pairs[i+1]})
	}
	return out
}

// nativeExemplars returns those that there are by value, as native histograms show them.
func nativeExemplars(exemplars []*dto.Exemplar) (all []*dto.Exemplar) {
	for _, e := range exemplars {
		if e != nil {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b *dto.Exemplar) int { return cmp.Compare(a.GetValue(), b.GetValue()) })
	return all
}

// lastExemplar returns the exemplar of the bucket up to +Inf: where that is the only one, the newest of all.
func (h *Histogram) lastExemplar(exemplars []*dto.Exemplar) *dto.Exemplar {
	if len(h.bounds) > 0 {
		return exemplars[len(h.bounds)]
	}
	var last *dto.Exemplar
	for _, e := range exemplars {
		if last == nil || e != nil && e.Timestamp.AsTime().After(last.Timestamp.AsTime()) {
			last = e
		}
	}
	return last
}
