package aggregate

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A family of the archive that makes no sense stays there, and nothing else stays out for it.
func TestFamilyOfTheArchiveThatCannotBeReadStopsNoFold(t *testing.T) {
	dir := newDir(t)
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	v := d.View()
	defer v.Close()
	bad := shmstore.ArchivedFamily{Family: counterFamily("c_total"), Series: []shmstore.ArchivedSeries{{Words: []uint64{1}}}}
	add := action{Do: "add", Family: counterFamily("c_total"), V: 1}
	leave(t, dir, 0, add)
	_, err = v.Fold(shmstore.FoldOptions{Merge: func(_ *shmstore.Archive, _, _ []*shmstore.Reader) (*shmstore.Archive, error) {
		return &shmstore.Archive{Families: []shmstore.ArchivedFamily{bad}}, nil
	}})
	require.NoError(t, err)
	s := openStore(t, dir, Options{})
	for _, want := range []string{"c_total 1\n", "c_total 2\n"} {
		leave(t, dir, 0, add)
		assert.Equal(t, want, text(t, s))
		assert.Equal(t, 1, mustFold(t, s))
		assert.Equal(t, want, text(t, s))
		require.NoError(t, v.Update())
		require.Len(t, v.Archive().Families, 2)
		assert.Equal(t, bad.Series[0].Words, v.Archive().Families[1].All()[0].Words)
	}
}

// A count that no process can have counted up to is no part of the archive, as it is no part of a scrape.
func TestFoldOfACountThatNoProcessCanHave(t *testing.T) {
	for _, n := range []uint64{1 << 63, math.MaxUint64} {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		histogram, summary := histogramFamily("h", []float64{1}, "l"), summaryFamily("s", "l")
		leave(t, dir, 0,
			action{Do: "observe", Family: histogram, Values: []string{"x"}, V: .5},
			action{Do: "observe", Family: summary, Values: []string{"x"}, V: .5}, ready)
		odd := math.Float64frombits(n)
		leave(t, dir, 1,
			action{Do: "observe", Family: histogram, Values: []string{"x"}, V: .5},
			action{Do: "word", Family: histogram, Values: []string{"x"}, Word: shmstore.HistogramBuckets, V: odd},
			action{Do: "observe", Family: summary, Values: []string{"x"}, V: .5},
			action{Do: "word", Family: summary, Values: []string{"x"}, Word: shmstore.SummaryCount, V: odd}, ready)
		before := text(t, s)
		require.Contains(t, before, "s_count{l=\"x\"} 1\n")
		require.Contains(t, before, "h_count{l=\"x\"} 1\n")
		mustFold(t, s)
		assert.Equal(t, before, text(t, s))
	}
}
