package foreign

import (
	"slices"
	"strings"

	"github.com/onescrape/onescrape/shmstore"
)

// layout is what the entries of a file are together: families, series, and where the cells of each come from. Entries
// are never removed, so it only grows, but a histogram gets other cells when bounds appear.
type layout struct {
	families []shmstore.Family
	series   []shmstore.SeriesInfo
	sources  []source // of series
	changes  uint64
	words    []uint64 // the cells

	numbers    map[*shmstore.Family]uint32 // of the family that a definition has now
	composites []composite
	index      map[string]int32     // composites by what tells them apart
	mentioned  map[string][]float64 // bounds of each histogram that the file mentions, ascending, without +Inf
	unset      []int32              // series that are not there before they are set
	laid       int                  // series that have cells
}

// source is where the cells of one series come from.
type source struct {
	kind      sourceKind
	cell      int32
	at        uint32 // offset of the value in the file
	composite int32
}

type sourceKind uint8

const (
	counterSource sourceKind = iota
	gaugeSource
	stampedSource // a gauge with the time that the file has
	newestSource  // a gauge that counts if its file is the newest
	histogramSource
	summarySource
)

// composite is a series of several entries.
type composite struct {
	def        *shmstore.Family
	series     int32
	sum, count uint32 // offsets of values; 0: there is none yet
	buckets    []bucket
	places     []uint32 // of the values of the family's buckets, that up to +Inf last; 0: the file has none
}

type bucket struct {
	bound float64
	at    uint32
}

func (l *layout) init() {
	l.numbers, l.index, l.mentioned = map[*shmstore.Family]uint32{}, map[string]int32{}, map[string][]float64{}
}

// add adds what an entry is: the value at that offset, of the process of that name.
func (l *layout) add(s *sample, process string, value int64) error {
	values, at := s.Values, uint32(value)
	if s.pid >= 0 {
		values = slices.Clone(values)
		values[s.pid] = process
	}
	whole := s.def.Type != shmstore.HistogramType && s.def.Type != shmstore.SummaryType
	switch {
	case whole != (s.Part == Value), s.Part == Bucket && s.def.Type != shmstore.HistogramType:
		return corrupt("a part of %s that no %s has", s.def.Name, s.def.Type)
	case whole:
		l.addScalar(s, values, at)
		return nil
	}
	c := l.composite(s.def, values)
	switch s.Part {
	case Sum:
		c.sum = at
	case Count:
		c.count = at
	case Bucket:
		c.buckets = append(c.buckets, bucket{s.Bound, at})
		c.places = nil
		bounds := l.mentioned[s.def.Name]
		if !isInf(s.Bound) {
			bounds = insertBound(bounds, s.Bound)
		}
		if len(bounds) > MaxBounds {
			return tooManyBounds(s.def.Name)
		}
		l.mentioned[s.def.Name] = bounds
	}
	return nil
}

func (l *layout) addScalar(s *sample, values []string, at uint32) {
	kind := gaugeSource
	hidden := false
	switch {
	case s.def.Type == shmstore.CounterType:
		kind = counterSource
	case s.PerProcess:
		kind = newestSource
	case s.def.Mode.Base() == shmstore.MostRecent:
		kind, hidden = stampedSource, true
	}
	number, known := l.numbers[s.def]
	if !known {
		number = l.newFamily(s.def, nil)
	}
	if hidden {
		l.unset = append(l.unset, int32(len(l.series)))
	}
	l.append(number, s.def, values, source{kind: kind, at: at})
	l.series[len(l.series)-1].Free = hidden
}

func (l *layout) append(number uint32, def *shmstore.Family, values []string, from source) {
	// No library says when a series began.
	s := shmstore.SeriesInfo{Family: number, Words: uint32(def.Words()), Values: values}
	l.series = append(l.series, s)
	l.sources = append(l.sources, from)
}

func (l *layout) newFamily(def *shmstore.Family, bounds []float64) uint32 {
	number := uint32(len(l.families))
	f := *def
	f.Bounds = bounds
	l.families = append(l.families, f)
	l.numbers[def] = number
	return number
}

// composite returns the series that an entry is a part of.
func (l *layout) composite(def *shmstore.Family, values []string) *composite {
	var id strings.Builder
	id.WriteString(def.Key())
	for _, v := range values {
		id.WriteByte(0xff) // is in no UTF-8
		id.WriteString(v)
	}
	n, known := l.index[id.String()]
	if !known {
		n = int32(len(l.composites))
		l.index[id.String()] = n
		l.composites = append(l.composites, composite{def: def, series: int32(len(l.series))})
		kind := summarySource
		if def.Type == shmstore.HistogramType {
			kind = histogramSource
		}
		l.append(0, def, values, source{kind: kind, composite: n})
	}
	return &l.composites[n]
}

// MaxBounds is how many buckets a histogram may have, besides the one up to +Inf. It takes few bytes to name a bound, and
// then every series of the family has cells for it.
const MaxBounds = 1024

// maxWords is how many cells a file's histograms and summaries may ask for: below what an int32 numbers, with all others.
const maxWords = 1 << 27

func tooManyBounds(family string) error {
	return corrupt("%s has more than %d buckets", family, MaxBounds)
}

// shape gives all series their families and cells, and histograms the bounds of the whole directory. After an error the
// caller leaves the file out. used is the length of the file in bytes, which limits the memory of the result.
func (l *layout) shape(bounds map[string][]float64, used int64) error {
	words, weight, budget := 0, int64(0), shmstore.Budget(used)
	for i := range l.composites {
		c := &l.composites[i]
		s := &l.series[c.series]
		wanted := bounds[c.def.Name]
		number, known := l.numbers[c.def]
		if !known || !slices.Equal(l.families[number].Bounds, wanted) {
			number = l.newFamily(c.def, wanted)
		}
		if f := &l.families[number]; int(c.series) >= l.laid || s.Family != number {
			if int(c.series) < l.laid {
				l.laid = 0
			}
			s.Family, s.Words, c.places = number, uint32(f.Words()), nil
		}
		if words += int(s.Words); words > maxWords {
			return corrupt("its histograms have more than %d buckets together", maxWords)
		}
		if weight += l.families[s.Family].Weight(s.Values); weight > budget {
			return corrupt("its samples have more than %d bytes of text, it has %d", budget, used)
		}
	}
	for i := range l.composites {
		if c := &l.composites[i]; c.places == nil && c.def.Type == shmstore.HistogramType {
			c.place(bounds[c.def.Name])
		}
	}
	if l.laid == 0 && len(l.words) > 0 {
		l.words = l.words[:0]
		l.changes++
	}
	for ; l.laid < len(l.series); l.laid++ {
		l.series[l.laid].Cell, l.sources[l.laid].cell = uint32(len(l.words)), int32(len(l.words))
		l.words = append(l.words, make([]uint64, l.series[l.laid].Words)...)
	}
	return nil
}

// place finds the values of the family's buckets.
func (c *composite) place(bounds []float64) {
	c.places = make([]uint32, len(bounds)+1)
	for _, b := range c.buckets {
		i := len(bounds)
		if !isInf(b.bound) {
			i, _ = slices.BinarySearch(bounds, b.bound)
		}
		c.places[i] = b.at
	}
}

func insertBound(bounds []float64, bound float64) []float64 {
	if i, found := slices.BinarySearch(bounds, bound); !found {
		return slices.Insert(bounds, i, bound)
	}
	return bounds
}
