package aggregate

import (
	"maps"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onescrape/onescrape/shmstore"
)

// Exemplars: of each counter and each bucket the newest of all origins is shown. Which bucket an exemplar belongs to is
// decided by its value and the bounds that rule, so that it lies in its bucket whatever bounds it was observed with. An
// archive keeps one for each bucket of the bounds that it was observed with.

// exemplarCell is the newest exemplar of a counter or bucket in this pass, with the output of the one that is exposed.
type exemplarCell struct {
	now   shmstore.Exemplar // with labels of its own
	found bool              // in this pass
	shown shmstore.Exemplar // what out is made of
	out   *dto.Exemplar     // nil: nothing, or one that cannot be
}

func (h *exemplarCell) offer(e *shmstore.Exemplar) {
	if h.found && e.Compare(&h.now) <= 0 {
		return
	}
	h.found = true
	h.now = shmstore.Exemplar{Value: e.Value, At: e.At, Labels: append(h.now.Labels[:0], e.Labels...)}
}

// finish makes out of what was found. Scrapes share it, so it is made anew when it changes.
func (h *exemplarCell) finish() {
	if !h.found {
		*h = exemplarCell{}
		return
	}
	if h.out != nil && h.now.Compare(&h.shown) == 0 {
		return
	}
	h.out = exemplarOutput(&h.now)
	h.now, h.shown = h.shown, h.now
	h.now.Labels = h.now.Labels[:0]
}

// exemplarOutput returns nil for labels that cannot be.
func exemplarOutput(e *shmstore.Exemplar) *dto.Exemplar {
	pairs, ok := e.Pairs()
	if !ok {
		return nil
	}
	labels := make([]*dto.LabelPair, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, &dto.LabelPair{Name: &pairs[i], Value: &pairs[i+1]})
	}
	return &dto.Exemplar{Label: labels, Value: new(e.Value), Timestamp: timestamppb.New(time.Unix(0, e.At))}
}

// offerExemplar shows e in a row unless it has a newer one.
func (f *family) offerExemplar(n int32, e *shmstore.Exemplar) {
	for len(f.exemplars) <= int(n) {
		f.exemplars = append(f.exemplars, nil)
	}
	if f.exemplars[n] == nil {
		f.exemplars[n] = make([]exemplarCell, f.rule.ExemplarSlots())
	}
	f.exemplars[n][f.rule.ExemplarOf(e.Value)].offer(e)
}

func (c *columns) beginExemplars() {
	for _, row := range c.exemplars {
		for i := range row {
			row[i].found = false
		}
	}
}

func (c *columns) finishExemplars() {
	for _, row := range c.exemplars {
		for i := range row {
			row[i].finish()
		}
	}
}

func (c *columns) dropExemplars(n int32) {
	if int(n) < len(c.exemplars) {
		c.exemplars[n] = nil
	}
}

// exemplarsOf returns the exemplars of a row, of which those that are found have an out; nil when there are none.
func (c *columns) exemplarsOf(n int32) []exemplarCell {
	if int(n) < len(c.exemplars) {
		return c.exemplars[n]
	}
	return nil
}

// lastExemplar returns the exemplar of the bucket up to +Inf: where that is the only one, the newest of all.
func (f *family) lastExemplar(x []exemplarCell) *dto.Exemplar {
	last := &x[len(x)-1]
	if len(f.rule.Bounds) == 0 {
		for i := range x {
			if x[i].out != nil && (last.out == nil || x[i].shown.Compare(&last.shown) > 0) {
				last = &x[i]
			}
		}
	}
	return last.out
}

// exemplarRow is where the exemplars of a series go.
type exemplarRow struct {
	family *family
	row    int32
}

// readExemplars offers a file's exemplars to the rows of its series. It comes before the cells are read, so that no
// scrape shows an exemplar of what it does not count yet.
func (f *file) readExemplars() error {
	r := own(f.reader)
	if r == nil || !r.HasExemplars() {
		return nil
	}
	f.asked, f.askedFor = f.asked[:0], f.askedFor[:0]
	series := r.Series()
	for _, d := range f.contributions {
		if !d.contributes() || d.def.ExemplarSlots() == 0 {
			continue
		}
		for _, list := range [2]entries{d.hidden, d.shown} {
			for e := range list.each {
				if series[e.series].Exemplars {
					f.asked = append(f.asked, e.series)
					f.askedFor = append(f.askedFor, exemplarRow{d.family, e.row})
				}
			}
		}
	}
	return r.ReadExemplars(f.asked, func(k, _ int, e *shmstore.Exemplar) {
		f.askedFor[k].family.offerExemplar(f.askedFor[k].row, e)
	})
}

// foldedExemplars are those of a series on its way into the next archive, by bucket.
type foldedExemplars map[int]shmstore.Exemplar

func (x *foldedExemplars) offer(def *shmstore.Family, e *shmstore.Exemplar) {
	i := def.ExemplarOf(e.Value)
	if have, ok := (*x)[i]; ok && e.Compare(&have) <= 0 {
		return
	}
	if _, ok := e.Pairs(); !ok {
		return
	}
	if *x == nil {
		*x = foldedExemplars{}
	}
	(*x)[i] = shmstore.Exemplar{Value: e.Value, At: e.At, Labels: slices.Clone(e.Labels)}
}

// list returns the exemplars in the order of the buckets.
func (x foldedExemplars) list() (all []shmstore.Exemplar) {
	for _, i := range slices.Sorted(maps.Keys(x)) {
		all = append(all, x[i])
	}
	return all
}
