package foreign

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A file of some megabytes can name as many bounds as it has entries, and every series of the histogram would have
// cells for each of them.
func TestLayoutLimits(t *testing.T) {
	def := &shmstore.Family{Name: "h", Type: shmstore.HistogramType, Labels: []string{"l"}}
	bucket := func(value string, bound float64) *sample {
		return &sample{Sample: Sample{Values: []string{value}, Part: Bucket, Bound: bound}, def: def, pid: -1}
	}
	var l layout
	l.init()
	for i := range MaxBounds {
		require.NoError(t, l.add(bucket("", float64(i)), "", 16))
	}
	require.NoError(t, l.add(bucket("", math.Inf(1)), "", 16))
	require.NoError(t, l.shape(l.mentioned, 1<<20))
	require.Len(t, l.words, def.Words()+MaxBounds)
	require.ErrorIs(t, l.add(bucket("", -1), "", 16), shmstore.ErrCorrupt)

	l = layout{}
	l.init()
	wide := make([]float64, MaxBounds)
	for i := range wide {
		wide[i] = float64(i)
	}
	for i := range maxWords / MaxBounds {
		require.NoError(t, l.add(bucket(string(rune(0x10000+i)), 1), "", 16))
	}
	assert.ErrorIs(t, l.shape(map[string][]float64{"h": wide}, 1<<30), shmstore.ErrCorrupt)
	assert.Empty(t, l.words)
	assert.Nil(t, l.composites[0].places, "nothing was allocated for what is left out")
}
