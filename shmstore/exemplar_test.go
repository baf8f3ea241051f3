package shmstore

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

var exemplarFamily = Family{Name: "x", Type: HistogramType, Labels: []string{"a"}, Bounds: []float64{1, 2}}

// numbered returns an exemplar whose parts all follow from n, of many lengths, and belong to one series.
func numbered(series string, n uint64) *Exemplar {
	e := &Exemplar{Value: float64(n), At: int64(n) + 1}
	e.Labels = AppendExemplarLabel(e.Labels, "of", series)
	if n%3 > 0 {
		e.Labels = AppendExemplarLabel(e.Labels, "trace_id", strings.Repeat(fmt.Sprintf("%c", 'a'+n%26), int(n%100)))
	}
	return e
}

// requireNumbered fails unless e is what numbered made for the series.
func requireNumbered(t testing.TB, series string, e *Exemplar) {
	t.Helper()
	want := numbered(series, uint64(e.Value))
	if e.At != want.At || string(e.Labels) != string(want.Labels) {
		require.Equal(t, want, e)
	}
}

// readExemplar is one that ReadExemplars gave, with labels of its own.
type readExemplar struct {
	k, slot int
	value   float64
	at      int64
	pairs   string
}

func exemplarsOf(t testing.TB, r *Reader, series ...int32) (all []readExemplar) {
	t.Helper()
	require.NoError(t, r.ReadExemplars(series, func(k, slot int, e *Exemplar) {
		pairs, ok := e.Pairs()
		require.True(t, ok)
		all = append(all, readExemplar{k, slot, e.Value, e.At, strings.Join(pairs, "|")})
	}))
	return all
}

func TestExemplars(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, exemplarFamily)
	none, s := addSeries(t, w, f, "none"), addSeries(t, w, f, "some")
	r := openReader(t, d, w.Name())
	assert.False(t, r.HasExemplars())
	assert.Empty(t, exemplarsOf(t, r, 0, 1))
	layout := r.Layout()

	e := Exemplar{Value: 1.5, At: 7, Labels: AppendExemplarLabel(AppendExemplarLabel(nil, "a", "1"), "ü", "")}
	slot, err := w.StoreExemplar(s, 1, &e)
	require.NoError(t, err)
	_, err = w.StoreExemplar(s, 2, &Exemplar{Value: math.Inf(1), At: 8})
	require.NoError(t, err)
	require.NoError(t, r.Refresh())
	assert.Equal(t, layout, r.Layout())
	assert.True(t, r.HasExemplars() && r.Series()[1].Exemplars && !r.Series()[0].Exemplars)
	inf := readExemplar{1, 2, math.Inf(1), 8, ""}
	assert.Equal(t, []readExemplar{{1, 1, 1.5, 7, "a|1|ü|"}, inf}, exemplarsOf(t, r, 0, 1))

	e.At, e.Value = 9, 1.75
	slot.Store(&e)
	assert.Equal(t, []readExemplar{{0, 1, 1.75, 9, "a|1|ü|"}}, exemplarsOf(t, r, 1)[:1], "no refresh is needed")

	// The longest there may be takes a larger place, which the reader finds too.
	long := Exemplar{Value: 2, At: 10}
	for n := range 64 {
		long.Labels = AppendExemplarLabel(long.Labels, string(rune(0x10400+n)), string(rune(0x10400)))
	}
	require.Len(t, long.Labels, 64*10)
	assert.False(t, slot.Fits(len(long.Labels)))
	before := w.space.next
	_, err = w.StoreExemplar(s, 1, &long)
	require.NoError(t, err)
	got := exemplarsOf(t, r, 1)
	if w.space.next > before {
		require.NoError(t, r.Refresh())
		got = exemplarsOf(t, r, 1)
	}
	assert.Equal(t, 2.0, got[0].value)
	assert.Len(t, strings.Split(got[0].pairs, "|"), 128)

	for _, i := range []int{-1, 3} {
		_, err = w.StoreExemplar(s, i, &e)
		assert.ErrorIs(t, err, errNoExemplars)
	}
	_, err = w.StoreExemplar(s, 0, &Exemplar{Labels: make([]byte, MaxExemplarLabels+1)})
	assert.ErrorIs(t, err, errNoExemplars)
	g := addSeries(t, w, addFamily(t, w, Family{Name: "g", Type: GaugeType, Mode: Sum}))
	_, err = w.StoreExemplar(g, 0, &e)
	assert.ErrorIs(t, err, errNoExemplars)

	// They stay as long as the series, hidden or released, and then go.
	w.Delete(s)
	_, err = w.StoreExemplar(s, 0, &e)
	require.NoError(t, err)
	w.Released(s)
	require.NoError(t, r.Refresh())
	assert.Len(t, exemplarsOf(t, r, 1), 3)
	_, err = w.StoreExemplar(s, 0, &e)
	assert.ErrorIs(t, err, errSeriesOver)
	w.Delete(none)
}

func TestExemplarOfAnotherSeriesIsNeverRead(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, exemplarFamily)
	s := addSeries(t, w, f, "old")
	_, err := w.StoreExemplar(s, 0, numbered("old", 1))
	require.NoError(t, err)
	r := openReader(t, d, w.Name())
	require.Len(t, exemplarsOf(t, r, 0), 1)
	w.Delete(s)
	w.mu.Lock()
	w.reuse(s) // as after an archive took it
	w.mu.Unlock()
	again := addSeries(t, w, f, "new")
	require.Equal(t, s.offset, again.offset)
	assert.Empty(t, exemplarsOf(t, r, 0))
	_, err = w.StoreExemplar(again, 0, numbered("new", 2))
	require.NoError(t, err)
	assert.Empty(t, exemplarsOf(t, r, 0), "the reader still takes the record for the old series'")
	require.NoError(t, r.Refresh())
	assert.Len(t, exemplarsOf(t, r, 0), 1)
}

func TestExemplarSpaceComesBack(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, exemplarFamily)
	var size int64
	for n := range uint64(20_000) {
		s := addSeries(t, w, f, "value")
		_, err := w.StoreExemplar(s, int(n%3), numbered("value", n))
		require.NoError(t, err)
		w.Delete(s)
		w.mu.Lock()
		w.reuse(s)
		w.mu.Unlock()
		if n == 1000 {
			size = fileSize(t, d, w.Name())
		}
	}
	assert.Equal(t, size, fileSize(t, d, w.Name()))
}

func TestFullFileDropsExemplars(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{Limit: 64 << 10})
	f := addFamily(t, w, exemplarFamily)
	s := addSeries(t, w, f, "x")
	var slots []ExemplarSlot
	for {
		s := addSeries(t, w, f, "x")
		slot, err := w.StoreExemplar(s, 0, numbered("x", 1))
		if err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		slots = append(slots, slot)
	}
	require.NotEmpty(t, slots)
	_, err := w.StoreExemplar(s, 0, numbered("x", 1))
	require.ErrorIs(t, err, ErrFull)
	atomic.AddUint64(&s.Cells[1], 5)
	slots[0].Store(numbered("x", 2))
	r := openReader(t, d, w.Name())
	assert.Equal(t, uint64(5), cellsOf(t, r)[0][1])
	found := 0
	for i := range r.Series() {
		found += len(exemplarsOf(t, r, int32(i)))
	}
	assert.Equal(t, len(slots), found)
}

// TestExemplarsAreNeverTorn reads exemplars that are overwritten, and series that come and go, all the time.
func TestExemplarsAreNeverTorn(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	f := addFamily(t, w, exemplarFamily)
	var stop atomic.Bool
	var writers sync.WaitGroup
	for n := range 2 {
		writers.Go(func() {
			name := fmt.Sprint("series-", n)
			for seed := uint64(0); !stop.Load(); seed++ {
				s, err := w.AddSeries(f, []string{name})
				if !assert.NoError(t, err) {
					return
				}
				var slots [3]ExemplarSlot
				for i := uint64(0); i < 300; i++ {
					e := numbered(name, rand.Uint64N(1<<40))
					if slot := &slots[i%3]; slot.Fits(len(e.Labels)) {
						slot.Store(e)
					} else if *slot, err = w.StoreExemplar(s, int(i%3), e); !assert.NoError(t, err) {
						return
					}
				}
				w.Delete(s)
				w.mu.Lock()
				w.reuse(s)
				w.mu.Unlock()
			}
		})
	}
	defer writers.Wait()
	defer stop.Store(true)
	r := openReader(t, d, w.Name())
	for seen := 0; seen < 3000; {
		require.NoError(t, r.Refresh())
		series := r.Series()
		asked := make([]int32, len(series))
		for i := range asked {
			asked[i] = int32(i)
		}
		require.NoError(t, r.ReadExemplars(asked, func(k, _ int, e *Exemplar) {
			requireNumbered(t, series[k].Values[0], e)
			seen++
		}))
	}
}

func init() {
	children["exemplars"] = func(dir string) error {
		d, err := OpenDir(dir, DirOptions{})
		if err != nil {
			return err
		}
		w, err := d.Create(WriterOptions{})
		if err != nil {
			return err
		}
		f, err := w.AddFamily(exemplarFamily)
		if err != nil {
			return err
		}
		fmt.Println(w.Name())
		for n := uint64(0); ; n++ {
			s, err := w.AddSeries(f, []string{"x"})
			if err != nil {
				return err
			}
			for i := range uint64(1000) {
				if _, err := w.StoreExemplar(s, int(i%3), numbered("x", 1000*n+i)); err != nil {
					return err
				}
			}
			w.Delete(s)
			w.mu.Lock()
			w.reuse(s)
			w.mu.Unlock()
		}
	}
}

func TestExemplarsOfAKilledProcessAreWhole(t *testing.T) {
	d := newStore(t)
	for range 20 {
		cmd, out := startChild(t, "exemplars", d.Path())
		name, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		r := openReader(t, d, strings.TrimSpace(name))
		eventually(t, func() bool {
			require.NoError(t, r.Refresh())
			return len(r.Series()) > 0 && len(exemplarsOf(t, r, 0)) > 0
		}, "exemplars")
		for range rand.IntN(2000) { // any instant will do
			require.NoError(t, r.ReadExemplars([]int32{0}, func(_, _ int, e *Exemplar) { requireNumbered(t, "x", e) }))
		}
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait()
		require.NoError(t, r.Refresh())
		require.NoError(t, r.ReadExemplars([]int32{0}, func(_, _ int, e *Exemplar) { requireNumbered(t, "x", e) }))
	}
}

func TestExemplarsThatCannotBe(t *testing.T) {
	label := AppendExemplarLabel
	for name, labels := range map[string][]byte{
		"cut":        label(nil, "a", "b")[:3],
		"no value":   {1, 'a'},
		"length":     {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"empty name": label(nil, "", "x"),
		"reserved":   label(nil, "__name__", "x"),
		"not UTF-8":  label(nil, "a", "\xff"),
		"unordered":  label(label(nil, "b", ""), "a", ""),
		"twice":      label(label(nil, "a", ""), "a", ""),
		"too long":   label(nil, "a", strings.Repeat("x", maxExemplarRunes)),
	} {
		_, ok := (&Exemplar{Labels: labels}).Pairs()
		assert.False(t, ok, name)
	}
	pairs, ok := (&Exemplar{Labels: label(nil, "a", strings.Repeat("x", maxExemplarRunes-1))}).Pairs()
	assert.True(t, ok)
	assert.Len(t, pairs, 2)
}

// TestHostileExemplars overwrites each word that leads to an exemplar with each of many numbers.
func TestHostileExemplars(t *testing.T) {
	d := newStore(t)
	w := newWriter(t, d, WriterOptions{})
	s := addSeries(t, w, addFamily(t, w, exemplarFamily), "x")
	_, err := w.StoreExemplar(s, 0, numbered("x", 5))
	require.NoError(t, err)
	name := fileName(1, 1)
	content, err := os.ReadFile(filepath.Join(d.Path(), w.Name()))
	require.NoError(t, err)
	encoding.Native.PutUint64(content[hdrNonce:], 1)
	encoding.Native.PutUint32(content[hdrPID:], 1)
	encoding.Native.PutUint32(content[hdrChecksum:], encoding.Checksum(content[:hdrChecksum]))
	slot := s.aux.slots[0].offset
	size := uint64(len(content))
	for _, at := range []int64{s.offset + seriesAux, s.aux.index, s.aux.index + wordSize, slot, slot + wordSize,
		slot + 2*wordSize, slot + (slotFirst+exemplarLabels+smallLabels/wordSize+exemplarLength)*wordSize} {
		for _, v := range []uint64{1, 8, 129, headerSize, size - 8, size, size + 8, 1 << 32, 1<<32 | 1, 1<<62 | 1,
			math.MaxUint64, math.MaxUint64 - 7, auxExemplars | (size/8)<<32, MaxExemplarLabels, uint64(s.offset)} {
			bad := append([]byte(nil), content...)
			encoding.Native.PutUint64(bad[at:], v)
			require.NoError(t, os.WriteFile(filepath.Join(d.Path(), name), bad, 0o600))
			r, err := d.Open(name)
			require.NoError(t, err)
			require.NoError(t, r.Refresh())
			require.NoError(t, r.ReadExemplars([]int32{0}, func(_, _ int, e *Exemplar) { requireNumbered(t, "x", e) }))
			require.NoError(t, r.Close())
		}
	}
	require.NoError(t, os.Remove(filepath.Join(d.Path(), name)))
}

func TestNewestExemplarIsTheSameForEverybody(t *testing.T) {
	a := Exemplar{Value: 1, At: 1, Labels: []byte("a")}
	for _, newer := range []Exemplar{{Value: 0, At: 2}, {Value: 2, At: 1}, {Value: 1, At: 1, Labels: []byte("b")}} {
		assert.Positive(t, newer.Compare(&a))
		assert.Negative(t, a.Compare(&newer))
	}
	assert.Zero(t, a.Compare(&a))
}
