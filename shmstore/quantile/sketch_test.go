package quantile

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sketchOf returns the sketch of values.
func sketchOf(resolution int, values ...float64) *Sketch {
	s := new(Sketch)
	addValues(s, resolution, values...)
	return s
}

func addValues(s *Sketch, resolution int, values ...float64) {
	r := NewResolution(resolution)
	for _, v := range values {
		bits := math.Float64bits(v)
		octave, ok := Octave(bits)
		switch {
		case ok:
			s.Add(r, InOctave(octave, r.Bucket(bits)), 1)
		case math.Abs(v) < 1:
			s.Add(r, ZeroBucket, 1)
		case v < 0:
			s.Add(r, BelowBucket, 1)
		default:
			s.Add(r, AboveBucket, 1)
		}
	}
}

// exactQuantile is the value of rank ceil(q·n) of sorted values.
func exactQuantile(sorted []float64, q float64) float64 {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func TestQuantilesAreWithinTheError(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	qs := []float64{-1, 0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1, 2}
	for round := range 300 {
		resolutions := []int{1 + random.IntN(MaxResolution)}
		if round%3 == 0 {
			resolutions = append(resolutions, 1+random.IntN(MaxResolution), 1+random.IntN(MaxResolution))
		}
		s := new(Sketch)
		addValues(s, 7, -1, 2, 0, math.Inf(1))
		s.Reset()
		worst := 0.0
		var values []float64
		for _, r := range resolutions {
			worst = max(worst, NewResolution(r).Error())
			part := make([]float64, 1+random.IntN(500))
			for i := range part {
				part[i] = random.NormFloat64() * math.Exp(5*random.NormFloat64())
			}
			addValues(s, r, part...)
			values = append(values, part...)
		}
		slices.Sort(values)
		for i, got := range s.AppendQuantiles(nil, qs) {
			want := exactQuantile(values, qs[i])
			// Each value is replaced by one that is at most so far from it, so the value of each rank is, too.
			require.LessOrEqual(t, math.Abs(got-want), (worst+1e-12)*math.Abs(want), "%v of %d", qs[i], len(values))
		}
	}
}

func TestQuantilesAtTheEdges(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, c := range map[string]struct {
		values   []float64
		qs, want []float64
	}{
		"empty":       {nil, []float64{0, 0.5, 1}, []float64{nan, nan, nan}},
		"zero":        {[]float64{0, 1e-30, -1e-30}, []float64{0, 0.5, 1}, []float64{0, 0, 0}},
		"infinite":    {[]float64{-inf, -1e20, 0, 1e20, inf}, []float64{0.4, 0.6, 0.8}, []float64{-inf, 0, inf}},
		"no quantile": {[]float64{0}, []float64{nan}, []float64{nan}},
	} {
		t.Run(name, func(t *testing.T) {
			got := sketchOf(35, c.values...).AppendQuantiles(nil, c.qs)
			for i, want := range c.want {
				if math.IsNaN(want) {
					assert.True(t, math.IsNaN(got[i]))
				} else {
					assert.Equal(t, want, got[i])
				}
			}
		})
	}
	got := sketchOf(35, -8, -4, -2, -1, 0, 1, 2, 4, 8).AppendQuantiles(nil, []float64{0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1})
	for i, want := range []float64{-8, -4, -2, -1, 0, 1, 2, 4, 8} {
		assert.InDelta(t, want, got[i], 0.01*math.Abs(want), "rank %d", i+1)
	}
}

func TestCountsThatCannotBe(t *testing.T) {
	s := new(Sketch)
	r := NewResolution(35)
	for range 3 {
		s.Add(r, InOctave(64, 3), math.MaxUint64)
		s.Add(r, AboveBucket, math.MaxUint64)
	}
	s.Add(r, InOctave(64, 35), 1)
	s.Add(r, AboveBucket+1, 1)
	s.Add(r, math.MaxUint32, 1)
	assert.InDelta(t, 1.07, s.AppendQuantiles(nil, []float64{0})[0], 0.01)
	assert.Len(t, s.ascending(), 2)
}
