package shmstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// A small file may not become gigabytes of text.
func TestSmallFileThatExpandsIsCorrupt(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	labels := make([]string, 100)
	for i := range labels {
		labels[i] = strings.Repeat("l", MaxName-3) + fmt.Sprintf("%03d", i)
	}
	f := addFamily(t, w, Family{Name: "x", Type: CounterType, Labels: labels})
	values := make([]string, len(labels))
	r := openReader(t, d, w.Name())
	for i := range 1000 {
		values[0] = fmt.Sprint(i)
		addSeries(t, w, f, values...)
	}
	err := r.Refresh()
	require.ErrorIs(t, err, ErrCorrupt)
	assert.ErrorContains(t, err, "bytes of text")
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
	cells := native.Uint64(b[first+seriesCells:])
	native.PutUint64(record[seriesCells:], cells+wordSize)
	body := int64(native.Uint32(record[seriesBody:]))
	native.PutUint32(record[recChecksum:], copiedChecksum(append([]byte(nil), record[:seriesValues+body]...)))
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
