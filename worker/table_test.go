package worker

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestVecAgainstMap does random operations, through curried vectors as well, on a vector and on a map.
func TestVecAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	// Of every length that the hash treats in its own way, and such as differ in one byte.
	var words []string
	for _, n := range []int{0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 40} {
		base := strings.Repeat("x", n)
		words = append(words, base)
		if n > 0 {
			words = append(words, base[:n/2]+"y"+base[n/2+1:], base[:n-1]+"z")
		}
	}
	word := func() string { return words[random.IntN(len(words))] }
	v := inMemory(t).newGaugeVec(gopts, []string{"a", "b", "c"}, Sum)
	model := map[[3]string]*Gauge{}
	for range 20_000 {
		key := [3]string{word(), word(), word()}
		var g *Gauge
		switch random.IntN(5) {
		case 0:
			g = v.WithLabelValues(key[:]...)
		case 1:
			g = v.With(prometheus.Labels{"a": key[0], "b": key[1], "c": key[2]})
		case 2:
			g = v.MustCurryWith(prometheus.Labels{"b": key[1]}).WithLabelValues(key[0], key[2])
		case 3:
			g = v.MustCurryWith(prometheus.Labels{"a": key[0], "c": key[2]}).With(prometheus.Labels{"b": key[1]})
		case 4:
			_, there := model[key]
			require.Equal(t, there, v.DeleteLabelValues(key[:]...))
			delete(model, key)
			continue
		}
		if model[key] == nil {
			model[key] = g
		}
		require.Same(t, model[key], g)
		require.Equal(t, key[:], g.values)
	}
	require.Len(t, slices.Collect(v.def.table.Load().all()), len(model))
}

// TestManyLabels looks up more labels than fit on the stack.
func TestManyLabels(t *testing.T) {
	names := strings.Split("abcdefghijklmnopqrst", "")
	require.Greater(t, len(names), inlineValues)
	v := inMemory(t).newCounterVec(copts, names)
	c := v.WithLabelValues(names...)
	all := prometheus.Labels{}
	for _, n := range names {
		all[n] = n
	}
	require.Same(t, c, v.With(all))
	curried := v.MustCurryWith(prometheus.Labels{"c": "c", "t": "t"})
	require.Same(t, c, curried.WithLabelValues(strings.Split("abdefghijklmnopqrs", "")...))
}
