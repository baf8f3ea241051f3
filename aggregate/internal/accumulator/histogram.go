package accumulator

import (
	"math"

	"github.com/onescrape/onescrape/aggregate/internal/exactsum"
	"github.com/onescrape/onescrape/aggregate/internal/origin"
	"github.com/onescrape/onescrape/shmstore"
)

// Histogram adds up the histograms of one series with the same bounds, or its summaries without their quantiles.
type Histogram struct {
	Counts []uint64 // of a histogram by bucket, the one up to +Inf last; of a summary one
	Sum    exactsum.Sum
}

// AddCells adds the cells of a process's histogram or summary.
func (h *Histogram) AddCells(def *shmstore.Family, _ *origin.Origin, cells []uint64) bool {
	if def.Type == shmstore.SummaryType {
		return h.addObservations(cells[shmstore.SummarySum], cells[shmstore.SummaryCount:][:1])
	}
	return h.addObservations(cells[shmstore.HistogramSum], cells[shmstore.HistogramBuckets:])
}

func (h *Histogram) addObservations(sum uint64, counts []uint64) bool {
	if !Possible(counts) {
		return false
	}
	h.Sum.Add(math.Float64frombits(sum))
	addCounts(h.Counts, counts)
	return true
}

// AppendWords appends the counts and the sum.
func (h *Histogram) AppendWords(w []uint64) []uint64 {
	return h.Sum.AppendWords(append(w, h.Counts...))
}

func (h *Histogram) read(r *wordReader, _ bool) {
	r.counts(h.Counts)
	h.Sum = r.sum()
}
