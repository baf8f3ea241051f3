package shmstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quantileLines are the lines of a summary that has the same name and the other labels.
var quantileLines = []Family{
	{Name: "size", Type: SummaryType, Labels: []string{"route"}},
	{Name: "size", Type: GaugeType, Mode: LiveMax, Labels: []string{QuantileLabel, "route"}, QuantileLines: true},
	{Name: "size", Type: GaugeType, Mode: LiveMax, Labels: []string{QuantileLabel, "route"}},
}

func TestQuantileLinesAreADefinitionOfTheirOwn(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for i, f := range quantileLines {
		require.EqualValues(t, i, addFamily(t, w, f))
		addSeries(t, w, uint32(i), []string{"0.5", "/"}[:len(f.Labels)]...)
	}
	r, err := d.Open(w.Name())
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Refresh())
	assert.Equal(t, quantileLines, r.Families())
	assert.True(t, r.Known())
	assert.Len(t, r.Series(), 3)
}

func TestQuantileLinesAreGaugesWithThatLabel(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for name, change := range map[string]func(*Family){
		"another mode": func(f *Family) { f.Mode = Max },
		"untyped":      func(f *Family) { f.Type = UntypedType },
		"a summary":    func(f *Family) { f.Type, f.Mode = SummaryType, 0 },
		"no label":     func(f *Family) { f.Labels = []string{"route"} },
	} {
		f := quantileLines[1]
		change(&f)
		_, err := w.AddFamily(f)
		assert.Error(t, err, name)
		_, _, err = decodeFamily(appendFamily(nil, &f))
		assert.ErrorIs(t, err, ErrCorrupt, name)
	}
}
