package shmstore

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/internal/osfile"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

var windowFamily = Family{Name: "latency", Type: SummaryType, Labels: []string{"route"},
	Window: &quantile.Window{Objectives: []float64{-1, 0.5, 0.99, 2}, Age: 50 * time.Second, Slices: 5, Resolution: 35}}

// tally counts n in the bucket of the octave in the slice of an epoch.
func tally(s *Series, block []uint64, epoch uint64, bucket int, n uint64) {
	w := windowFamily.Window
	place := int(epoch % uint64(w.Slices))
	atomic.StoreUint64(&s.Window[quantile.WindowSlices+place*quantile.SliceWords+quantile.SliceEpoch], epoch)
	atomic.AddUint64(&block[quantile.OctaveCounts+place*w.Resolution+bucket], n)
}

// countsOf returns what a reader finds in the window of series i.
func countsOf(t testing.TB, r *Reader, i int, now, length uint64) map[quantile.BucketID]uint64 {
	t.Helper()
	var pairs, copied []uint64
	budget := 0
	require.NoError(t, r.Read(func(words []uint64) {
		budget = 2 * len(words)
		s := &r.Series()[i]
		pairs = r.Families()[s.Family].Window.AppendCounts(nil, words, int(s.Window), now, length, &budget)
	}))
	require.NoError(t, r.ReadStable(func(j int, _ []uint64) {
		if j == i {
			copied = r.AppendWindow(nil, j, now, length, &budget)
		}
	}))
	require.Equal(t, pairs, copied)
	require.Len(t, pairs, 1+2*int(pairs[0]))
	counts := map[quantile.BucketID]uint64{}
	for pairs = pairs[1:]; len(pairs) > 0; pairs = pairs[2:] {
		counts[quantile.BucketID(pairs[0])] += pairs[1]
	}
	return counts
}

func TestWindowIsReadAsItWasWritten(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	s := addSeries(t, w, addFamily(t, w, windowFamily), "/")
	other := addSeries(t, w, addFamily(t, w, everyType[0]), "200", "/")
	require.Len(t, s.Window, windowFamily.Window.Words())
	require.Nil(t, other.Window)
	_, err := w.AddOctave(other, 3)
	require.Error(t, err)
	r := openReader(t, d, w.Name())
	require.Equal(t, windowFamily, r.Families()[0])
	require.True(t, r.Known())

	const slice = 10 * uint64(time.Second)
	now := 100 * slice
	epoch := windowFamily.Window.Epoch(now)
	length := windowFamily.Window.Length()
	require.Empty(t, countsOf(t, r, 0, now, length))
	a, err := w.AddOctave(s, 200)
	require.NoError(t, err)
	b, err := w.AddOctave(s, 7)
	require.NoError(t, err)
	tally(s, a, epoch, 34, 3)
	tally(s, b, epoch-1, 0, 5)
	tally(s, b, epoch-4, 0, 7)
	place := int((epoch - 4) % 5)
	for i := range uint64(3) {
		atomic.StoreUint64(&s.Window[quantile.WindowSlices+place*quantile.SliceWords+quantile.SliceZero+int(i)], 100+i)
	}
	require.NoError(t, r.Refresh())
	first := map[quantile.BucketID]uint64{quantile.InOctave(200, 34): 3, quantile.InOctave(7, 0): 12, quantile.ZeroBucket: 100, quantile.BelowBucket: 101, quantile.AboveBucket: 102}
	later := map[quantile.BucketID]uint64{quantile.InOctave(200, 34): 3, quantile.InOctave(7, 0): 5}
	assert.Equal(t, first, countsOf(t, r, 0, now, length))
	assert.Equal(t, first, countsOf(t, r, 0, now+slice-1, length), "to the end of the slice")
	assert.Equal(t, first, countsOf(t, r, 0, now-slice, length), "the writer's clock may be ahead")
	assert.Equal(t, later, countsOf(t, r, 0, now+slice, length))
	assert.Equal(t, later, countsOf(t, r, 0, now, 3*slice), "who asks has a shorter window")
	assert.Equal(t, first, countsOf(t, r, 0, now+slice, 100*slice), "or a longer one")
	assert.Equal(t, map[quantile.BucketID]uint64{quantile.InOctave(200, 34): 3}, countsOf(t, r, 0, now+4*slice, length))
	assert.Empty(t, countsOf(t, r, 0, now+5*slice, length))
	assert.Equal(t, uint64(7), countsOf(t, r, 0, now-3*slice, length)[quantile.InOctave(7, 0)], "nothing that lies ahead")
	assert.Empty(t, countsOf(t, r, 0, 0, length))

	// A slice that is being emptied is left out.
	atomic.StoreUint64(&s.Window[quantile.WindowSlices+place*quantile.SliceWords+quantile.SliceEpoch], 0)
	assert.Equal(t, later, countsOf(t, r, 0, now, length))
}

// A file that grew for octaves only is mapped anew, and until then all octaves count that lie in what is mapped.
func TestOctavesBehindTheEndOfWhatIsMapped(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	s := addSeries(t, w, addFamily(t, w, windowFamily), "/")
	now := osfile.Monotonic()
	epoch, length := windowFamily.Window.Epoch(now), windowFamily.Window.Length()
	add := func(octave uint64) {
		block, err := w.AddOctave(s, octave)
		require.NoError(t, err)
		tally(s, block, epoch, 1, octave+1)
	}
	add(0)
	r := openReader(t, d, w.Name())
	for octave := range uint64(quantile.Octaves - 1) {
		add(octave + 1)
	}
	before := len(countsOf(t, r, 0, now, length))
	assert.Less(t, before, quantile.Octaves)
	assert.Greater(t, before, 0)
	_, err := r.State()
	require.NoError(t, err)
	require.NoError(t, r.Refresh())
	counts := countsOf(t, r, 0, now, length)
	assert.Len(t, counts, quantile.Octaves)
	for octave := range uint64(quantile.Octaves) {
		assert.Equal(t, octave+1, counts[quantile.InOctave(octave, 1)])
	}
	// NewSummary's comment says what all of it takes at most.
	assert.Less(t, quantile.Octaves*int64(windowFamily.Window.OctaveWords())*wordSize, int64(370<<10))
}

func TestWindowsAreReused(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	family := addFamily(t, w, windowFamily)
	now := osfile.Monotonic()
	epoch := windowFamily.Window.Epoch(now)
	size := int64(0)
	for i := range 50 {
		s := addSeries(t, w, family, fmt.Sprint(i))
		require.Equal(t, quantile.WindowHead(len(s.Window)), s.Window[0])
		for j := range s.Window[1:] {
			require.Zero(t, s.Window[1+j])
		}
		for octave := range uint64(20) {
			block, err := w.AddOctave(s, octave)
			require.NoError(t, err)
			for j := range block[quantile.OctaveCounts:] {
				require.Zero(t, block[quantile.OctaveCounts+j])
			}
			tally(s, block, epoch, int(octave), 1)
		}
		w.Delete(s)
		_, err := w.AddOctave(s, 20)
		require.NoError(t, err, "a handle may still write")
		w.Released(s)
		_, err = w.AddOctave(s, 21)
		require.Error(t, err)
		// As if an archive had taken it.
		w.archived.number, w.archived.looked = w.releases, time.Now().Add(time.Hour)
		if i == 1 {
			size = fileSize(t, d, w.Name())
		}
	}
	assert.Equal(t, size, fileSize(t, d, w.Name()))
}

func TestNoSpaceForAWindow(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Limit: 64 << 10})
	family := addFamily(t, w, windowFamily)
	s := addSeries(t, w, family, "/")
	octaves := 0
	for octave := range uint64(quantile.Octaves) {
		if _, err := w.AddOctave(s, octave); err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		octaves++
	}
	assert.Greater(t, octaves, 20)
	assert.Less(t, octaves, quantile.Octaves)
	for i := 0; ; i++ {
		if _, err := w.AddSeries(family, []string{fmt.Sprint(i)}); err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
	}
	r := openReader(t, d, w.Name())
	assert.NotEmpty(t, r.Series())
}

func TestWindowsThatCannotBe(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	for name, change := range map[string]func(*Family){
		"of a counter":       func(f *Family) { f.Type = CounterType },
		"no slices":          func(f *Family) { f.Window.Slices = 0 },
		"too many slices":    func(f *Family) { f.Window.Slices = quantile.MaxSlices + 1 },
		"no time":            func(f *Family) { f.Window.Age = 4 },
		"no resolution":      func(f *Family) { f.Window.Resolution = 0 },
		"too fine":           func(f *Family) { f.Window.Resolution = quantile.MaxResolution + 1 },
		"not a number":       func(f *Family) { f.Window.Objectives = []float64{math.NaN()} },
		"not ascending":      func(f *Family) { f.Window.Objectives = []float64{1, 1} },
		"too many quantiles": func(f *Family) { f.Window.Objectives = make([]float64, quantile.MaxObjectives+1) },
	} {
		t.Run(name, func(t *testing.T) {
			f := windowFamily
			window := *f.Window
			f.Window = &window
			change(&f)
			_, err := w.AddFamily(f)
			require.ErrorIs(t, err, errDefinition)
			_, _, err = decodeFamily(appendFamily(nil, &f))
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
	other := windowFamily
	other.Window = nil
	assert.NotEqual(t, other.Key(), windowFamily.Key())
}

func TestSeedOfTheFuzzerHasAWindow(t *testing.T) {
	d := newStore(t)
	b := seedWindow()
	content := make([]byte, headerSize)
	copy(content, smallContent(t)[:headerSize])
	copy(content[hdrStore:], d.id[:])
	encoding.Native.PutUint64(content[hdrNonce:], 1)
	encoding.Native.PutUint32(content[hdrPID:], 4711)
	encoding.Native.PutUint32(content[hdrChecksum:], encoding.Checksum(content[:hdrChecksum]))
	encoding.Native.PutUint64(content[hdrUsed:], uint64(headerSize+len(b)))
	name := fileName(4711, 1)
	require.NoError(t, os.WriteFile(filepath.Join(d.Path(), name), append(content, b...), 0o600))
	r := openReader(t, d, name)
	w := windowFamily.Window
	assert.Len(t, countsOf(t, r, 0, osfile.Monotonic(), w.Length()), w.Resolution)
	readAnything(t, r)
}

// Whatever the words of a window are, reading it ends, and stays within them.
func TestWindowWithAnyLinks(t *testing.T) {
	f := windowFamily.Window
	now := 1000 * f.SliceLength()
	const at = 600 // of the window
	place := int(f.Epoch(now) % 5)
	for name, c := range map[string]struct {
		link, next, octave uint64
		want               int
	}{
		"none":             {},
		"one":              {link: headerSize, want: 1},
		"itself":           {link: headerSize, next: headerSize, want: 1},
		"the window":       {link: at * wordSize},
		"in the header":    {link: wordSize},
		"odd":              {link: headerSize + 4},
		"behind":           {link: 1 << 20},
		"partly behind":    {link: 1000 * wordSize},
		"far behind":       {link: math.MaxUint64 - 7},
		"unknown octave":   {link: headerSize, octave: quantile.Octaves},
		"next far behind":  {link: headerSize, next: math.MaxUint64 - 7, want: 1},
		"next in the head": {link: headerSize, next: 16, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			words := make([]uint64, 1000)
			const block = headerSize / wordSize
			words[at] = quantile.WindowHead(f.Words())
			words[at+quantile.WindowOctaves] = c.link
			words[at+quantile.WindowSlices+place*quantile.SliceWords+quantile.SliceEpoch] = f.Epoch(now)
			words[block+quantile.OctaveNumber], words[block+quantile.OctaveNext] = c.octave, c.next
			words[block+quantile.OctaveCounts+place*f.Resolution+3] = 9
			words[block+quantile.OctaveCounts+place*f.Resolution+4] = quantile.MaxCount // which cannot be
			budget := 2 * len(words)
			got := f.AppendCounts(nil, words, at, now, f.Length(), &budget)
			require.Len(t, got, 1+2*int(got[0]))
			if c.want == 0 {
				return
			}
			require.Equal(t, []uint64{1, uint64(quantile.InOctave(0, 3)), 9}, got)
			words[at]++
			require.Equal(t, []uint64{0}, f.AppendCounts(nil, words, at, now, f.Length(), &budget), "it is something else")
			words[at]--
			budget = f.OctaveWords() - 1
			require.Equal(t, []uint64{0}, f.AppendCounts(nil, words, at, now, f.Length(), &budget))
		})
	}
}
