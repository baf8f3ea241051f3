package shmstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// Every sample repeats the names, so a writer may not make them long.
func TestWriterRefusesLongNames(t *testing.T) {
	w := newWriter(t, newStore(t), WriterOptions{})
	name, help := strings.Repeat("x", MaxName), strings.Repeat("x", MaxHelp)
	_, err := w.AddFamily(Family{Name: name, Help: help, Type: CounterType, Labels: []string{name}})
	require.NoError(t, err)
	for _, f := range []Family{{Name: name + "x"}, {Name: "x", Help: help + "x"}, {Name: "x", Labels: []string{name + "x"}}} {
		f.Type = CounterType
		_, err := w.AddFamily(f)
		require.ErrorIs(t, err, errTooLong)
	}
}

// A small file may not become gigabytes of text: a writer stops before that, and a reader does not believe another.
func TestSmallFileThatExpands(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	labels := make([]string, 100)
	for i := range labels {
		labels[i] = strings.Repeat("l", MaxName-3) + fmt.Sprintf("%03d", i)
	}
	f := addFamily(t, w, Family{Name: "x", Type: GaugeType, Mode: Sum, Labels: labels})
	values := make([]string, len(labels))
	var series []*Series
	for {
		values[0] = fmt.Sprint(len(series))
		s, err := w.AddSeries(f, values)
		if err != nil {
			require.ErrorIs(t, err, errBudget)
			break
		}
		series = append(series, s)
		require.Less(t, len(series), 1000)
	}
	require.NoError(t, openReader(t, d, w.Name()).Refresh(), "a writer keeps within what readers take")

	w.rest = 0
	w.Delete(series[0])
	w.Released(series[0])
	addSeries(t, w, f, values...)
	require.NoError(t, openReader(t, d, w.Name()).Refresh())

	w.weight = 0
	values[0] = "one too many"
	addSeries(t, w, f, values...)
	r, err := d.Open(w.Name())
	require.NoError(t, err)
	defer r.Close()
	err = r.Refresh()
	require.ErrorIs(t, err, ErrCorrupt)
	assert.ErrorContains(t, err, "bytes of text")
}

// A histogram of many buckets repeats its labels often, which is no reason to leave a file out or a series away.
func TestManyBucketsAndLongLabels(t *testing.T) {
	d := newStore(t)
	bounds := make([]float64, 1024)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	long := strings.Repeat("x", MaxName)
	for _, c := range []struct {
		name, value string
		series      int
	}{{long, long, 1}, {"y", long[:500], 1000}} {
		w := newWriter(t, d, WriterOptions{})
		f := addFamily(t, w, Family{Name: "h", Type: HistogramType, Labels: []string{c.name, "z"}, Bounds: bounds})
		for i := range c.series {
			addSeries(t, w, f, c.value, fmt.Sprint(i))
		}
		require.NoError(t, openReader(t, d, w.Name()).Refresh())
	}
}

// Two series that share cells make of few bytes many, and of one value two.
func TestSeriesThatShareCellsAreCorrupt(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, Family{Name: "h", Type: HistogramType, Labels: []string{"l"}, Bounds: []float64{1, 2, 3}})
	addSeries(t, w, f, "a")
	addSeries(t, w, f, "b")
	r := openReader(t, d, w.Name())
	require.NoError(t, r.Refresh())
	first, second := r.records[0].offset(), r.records[1]

	path := filepath.Join(d.Path(), w.Name())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	record := b[second.offset():][:second.length]
	cells := encoding.Native.Uint64(b[first+seriesCells:])
	encoding.Native.PutUint64(record[seriesCells:], cells+wordSize)
	body := int64(encoding.Native.Uint32(record[seriesBody:]))
	encoding.Native.PutUint32(record[recChecksum:], copiedChecksum(append([]byte(nil), record[:seriesValues+body]...)))
	require.NoError(t, os.Chmod(path, 0o600))
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.WriteAt(record, second.offset())
	require.NoError(t, err)

	again, err := d.Open(w.Name())
	require.NoError(t, err)
	defer again.Close()
	err = again.Refresh()
	require.ErrorIs(t, err, ErrCorrupt)
	assert.ErrorContains(t, err, "cells of another one")
}

// archiveThatExpands has a family whose series exceed the budget, one of a label name of so many bytes, and two that are as
// they should be.
func archiveThatExpands(long int) *Archive {
	labels, values := make([]string, 32), make([]string, 32)
	for i := range labels {
		labels[i] = strings.Repeat("l", MaxName-3) + fmt.Sprintf("%03d", i)
	}
	tooLong := strings.Repeat("l", long)
	a := &Archive{Families: []ArchivedFamily{
		{Family: Family{Name: "before", Type: CounterType, Labels: []string{"l"}}},
		{Family: Family{Name: "heavy", Type: CounterType, Labels: labels}},
		{Family: Family{Name: "long", Type: CounterType, Labels: []string{tooLong}}},
		{Family: Family{Name: "behind", Type: CounterType, Labels: []string{"l"}}},
	}}
	for i := range 1000 {
		for j := range a.Families {
			own := append([]string(nil), values[:len(a.Families[j].Labels)]...)
			own[0] = fmt.Sprint(i)
			a.Families[j].Series = append(a.Families[j].Series, ArchivedSeries{Values: own, Words: []uint64{1, 0}})
		}
	}
	return a
}

// Of an archive that would become too large the heaviest family is left out, and nothing else: no other counter falls.
func TestArchiveThatExpands(t *testing.T) {
	a := archiveThatExpands(1 << 20)
	again, err := decodeArchive(appendRest(appendFamilies(nil, 0, a.Families), a))
	require.NoError(t, err)
	var names []string
	for i := range again.Families {
		names = append(names, again.Families[i].Name)
		assert.Equal(t, 1000, again.Families[i].Len())
	}
	assert.Equal(t, []string{"before", "long", "behind"}, names, "what has too long names is kept for programs that expose it")
	assert.Equal(t, 1000, again.LeftOut)
	assert.Nil(t, again.image, "the next fold writes it without the family")
}
