package shmstore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Files with the same series share their label values; where they differ each has its own, and all are right.
func TestReadersShareLabelValues(t *testing.T) {
	d := newStore(t)
	def := Family{Name: "c", Type: CounterType, Labels: []string{"a", "b"}}
	values := func(writer, i int) []string {
		if writer == 2 && i%3 == 0 {
			return []string{"other", fmt.Sprint(i)}
		}
		return []string{fmt.Sprint("value ", i), ""}
	}
	const series = 3000
	writers := map[string]int{}
	for n := range 3 {
		w := newWriter(t, d, WriterOptions{})
		family := addFamily(t, w, def)
		for i := range series {
			addSeries(t, w, family, values(n, i)...)
		}
		writers[w.Name()] = n
	}
	v := d.View()
	defer v.Close()
	require.NoError(t, v.Update())
	require.Len(t, v.Readers(), 3)
	shared := 0
	var last *Reader
	for _, r := range v.Readers() {
		require.NoError(t, r.Refresh())
		require.Len(t, r.Series(), series)
		for i, s := range r.Series() {
			require.Equal(t, values(writers[r.Info().Name], i), s.Values)
			if last != nil && &s.Values[0] == &last.Series()[i].Values[0] {
				shared++
			}
		}
		last = r
	}
	require.GreaterOrEqual(t, shared, 2*(series-series/3))
}
