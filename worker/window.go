package worker

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// relativeError is how far a summary's quantile may be from the exact one, relative to that.
const relativeError = 0.01

// minSlice is the shortest slice of a window, which a MaxAge below AgeBuckets of them is stretched to.
const minSlice = time.Millisecond

// windowOf returns the window of a summary's observations, nil when it has no objectives.
func windowOf(opts prometheus.SummaryOpts) *quantile.Window {
	w := &quantile.Window{
		Age:        opts.MaxAge,
		Slices:     int(min(opts.AgeBuckets, quantile.MaxSlices)),
		Resolution: quantile.ResolutionFor(relativeError),
	}
	if w.Age == 0 {
		w.Age = prometheus.DefMaxAge
	}
	if w.Slices == 0 {
		w.Slices = prometheus.DefAgeBuckets
	}
	w.Age = max(w.Age, time.Duration(w.Slices)*minSlice)
	for q := range opts.Objectives {
		if !math.IsNaN(q) {
			w.Objectives = append(w.Objectives, q)
		}
	}
	if len(w.Objectives) == 0 {
		return nil
	}
	slices.Sort(w.Objectives)
	return w
}

// window is the latest observations of a summary, where its series is: in the process's file or in its memory. The words
// are laid out alike in both; but in memory octaves have no links.
//
// To observe is to add 1 to one word, which the slice's place and two look-ups say. It is turn that makes another slice
// the one that is written to, when the clock says so, under the lock. A goroutine that was stopped in between adds to the
// slice before, which still counts; one that was stopped for a whole MaxAge may add to a later one.
type window struct {
	shape      *quantile.Window
	resolution *quantile.Resolution
	clock      *sliceClock
	registry   *registry

	epoch   atomic.Uint64                            // of the slice that is written to; 0: none yet
	slice   atomic.Uint64                            // its place
	block   atomic.Pointer[uint64]                   // the window's
	octaves [quantile.Octaves]atomic.Pointer[uint64] // their blocks; nil: there is none yet

	mu       sync.Mutex // protects what follows, and is held to change what is above. Taken after the registry's
	writer   *shmstore.Writer
	stored   *shmstore.Series // nil: in process memory
	overflow []uint64         // stands for octaves that found no space
}

func newWindow(d *definition) *window {
	return &window{
		shape:      d.family.Window,
		resolution: quantile.NewResolution(d.family.Window.Resolution),
		clock:      d.clock,
		registry:   d.registry,
	}
}

// observe counts v in the slice of now.
func (w *window) observe(v float64) {
	if w.clock.epoch.Load() != w.epoch.Load() {
		w.rotate()
	}
	slice := int(w.slice.Load())
	bits := math.Float64bits(v)
	octave, ok := quantile.Octave(bits)
	if !ok {
		w.observeOutside(slice, v)
		return
	}
	p := w.octaves[octave].Load()
	if p == nil {
		p = w.missingOctave(octave)
	}
	i := quantile.OctaveCounts + slice*w.resolution.Buckets() + w.resolution.Bucket(bits)
	if atomic.AddUint64(word(p, i), 1) >= integerMark {
		w.reapply(&w.octaves[octave], i)
	}
}

// observeOutside is observe for what is in no octave. A NaN has no place among other numbers, and none here.
func (w *window) observeOutside(slice int, v float64) {
	i := quantile.WindowSlices + slice*quantile.SliceWords
	switch {
	case math.Abs(v) < 1:
		i += quantile.SliceZero
	case v < 0:
		i += quantile.SliceBelow
	case v > 0:
		i += quantile.SliceAbove
	default:
		return
	}
	if atomic.AddUint64(word(w.block.Load(), i), 1) >= integerMark {
		w.reapply(&w.block, i)
	}
}

// reapply is for a writer that just added 1 to a word that bears a mark: the window has moved, see move.go.
func (w *window) reapply(block *atomic.Pointer[uint64], i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := block.Load(); p != nil {
		atomic.AddUint64(word(p, i), 1)
	}
}

// rotate makes the slice of now the one that is written to, empty if it held another one.
func (w *window) rotate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch := w.clock.epoch.Load()
	if w.epoch.Load() == epoch {
		return
	}
	place := int(epoch % uint64(w.shape.Slices))
	slice := words(word(w.block.Load(), quantile.WindowSlices+place*quantile.SliceWords), quantile.SliceWords)
	if atomic.LoadUint64(&slice[quantile.SliceEpoch]) != epoch {
		// From here on readers leave the slice out, until it is empty and has its new number.
		atomic.StoreUint64(&slice[quantile.SliceEpoch], 0)
		zero(slice[quantile.SliceZero:])
		for i := range w.octaves {
			if p := w.octaves[i].Load(); p != nil && !w.overflowed(p) {
				zero(w.counts(p, place))
			} else if p != nil {
				w.octaves[i].Store(nil) // there may be space by now
			}
		}
		atomic.StoreUint64(&slice[quantile.SliceEpoch], epoch)
	}
	w.slice.Store(uint64(place))
	w.epoch.Store(epoch)
}

func zero(words []uint64) {
	for i := range words {
		atomic.StoreUint64(&words[i], 0)
	}
}

// counts returns what an octave counted in the slice at a place.
func (w *window) counts(block *uint64, place int) []uint64 {
	return words(word(block, quantile.OctaveCounts+place*w.shape.Resolution), w.shape.Resolution)
}

// overflowed reports whether a block stands for an octave that found no space.
func (w *window) overflowed(block *uint64) bool { return w.overflow != nil && block == &w.overflow[0] }

// missingOctave returns the block of an octave that had none when the caller looked. Where the file has no space for it, what is
// observed in the octave is missing in the quantiles until the next slice begins, when it is tried again.
func (w *window) missingOctave(octave uint64) *uint64 {
	w.mu.Lock()
	p := w.octaves[octave].Load()
	err := error(nil)
	if p == nil {
		p, err = w.addOctave(octave)
		w.octaves[octave].Store(p)
	}
	w.mu.Unlock()
	if err != nil {
		w.registry.mu.Lock()
		defer w.registry.mu.Unlock()
		w.registry.once("window", func() {
			w.registry.log.Error("the store has no space for some observations of a summary: its quantiles lack them, as "+
				"others' may; sum and count are right", "error", err)
		})
	}
	return p
}

// addOctave makes the block of an octave. The caller holds the lock.
func (w *window) addOctave(octave uint64) (*uint64, error) {
	if w.stored == nil {
		return &memoryCells(w.shape.OctaveWords())[0], nil
	}
	block, err := w.writer.AddOctave(w.stored, octave)
	if err != nil {
		if w.overflow == nil {
			w.overflow = memoryCells(w.shape.OctaveWords())
		}
		return &w.overflow[0], err
	}
	return &block[0], nil
}

// place gives the window its words: in the file when its series is stored there, else in memory. What it held before
// moves there, as move.go says: the words that are left behind bear marks. The caller holds the registry's lock.
func (w *window) place(writer *shmstore.Writer, stored *shmstore.Series) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writer, w.stored = writer, stored
	from := w.block.Load()
	var to *uint64
	if stored != nil {
		to = &stored.Window[0]
	} else {
		to = &memoryCells(w.shape.Words())[0]
	}
	if from != nil {
		for i := range w.octaves {
			w.moveOctave(i)
		}
		for i := range w.shape.Slices {
			// The number comes last: before it a reader takes nothing of the slice.
			at := quantile.WindowSlices + i*quantile.SliceWords
			for j := quantile.SliceWords - 1; j > quantile.SliceEpoch; j-- {
				moveCount(word(to, at+j), word(from, at+j))
			}
			atomic.StoreUint64(word(to, at+quantile.SliceEpoch), atomic.LoadUint64(word(from, at+quantile.SliceEpoch)))
		}
	}
	w.block.Store(to)
}

func (w *window) moveOctave(i int) {
	from := w.octaves[i].Load()
	if from == nil {
		return
	}
	if w.overflowed(from) {
		w.octaves[i].Store(nil)
		return
	}
	to, err := w.addOctave(uint64(i))
	if err == nil {
		for j := quantile.OctaveCounts; j < w.shape.OctaveWords(); j++ {
			moveCount(word(to, j), word(from, j))
		}
	}
	w.octaves[i].Store(to)
}

func moveCount(to, from *uint64) { atomic.StoreUint64(to, atomic.SwapUint64(from, integerMark)) }

// quantiles returns this process's, sorted as client_golang sorts them.
func (w *window) quantiles() []*dto.Quantile {
	var sketch quantile.Sketch
	w.sketch(&sketch)
	qs := w.shape.Objectives
	out := make([]*dto.Quantile, len(qs))
	for i, v := range sketch.AppendQuantiles(nil, qs) {
		out[i] = &dto.Quantile{Quantile: new(qs[i]), Value: new(v)}
	}
	return out
}

// sketch adds what counts now.
func (w *window) sketch(to *quantile.Sketch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.now()
	for place := range w.shape.Slices {
		slice := words(word(w.block.Load(), quantile.WindowSlices+place*quantile.SliceWords), quantile.SliceWords)
		if !w.shape.Counts(atomic.LoadUint64(&slice[quantile.SliceEpoch]), now, w.shape.Length()) {
			continue
		}
		to.Add(w.resolution, quantile.ZeroBucket, atomic.LoadUint64(&slice[quantile.SliceZero]))
		to.Add(w.resolution, quantile.BelowBucket, atomic.LoadUint64(&slice[quantile.SliceBelow]))
		to.Add(w.resolution, quantile.AboveBucket, atomic.LoadUint64(&slice[quantile.SliceAbove]))
		for octave := range w.octaves {
			p := w.octaves[octave].Load()
			if p == nil || w.overflowed(p) {
				continue
			}
			counts := w.counts(p, place)
			for i := range counts {
				to.Add(w.resolution, quantile.InOctave(uint64(octave), i), atomic.LoadUint64(&counts[i]))
			}
		}
	}
}

// sliceClock tells the slice of now to all windows with slices of one length. Reading a clock would cost an observation
// more than counting it does, and the answer changes once in minutes: so a timer sets it when it changes. A process that
// was stopped meanwhile, or that is too busy to run the timer in time, goes on in the slice before for as long.
type sliceClock struct {
	epoch atomic.Uint64 // as quantile.Window.Epoch numbers them
	shape quantile.Window
	now   func() uint64
}

// run sets the epoch, now and whenever a slice begins from now on. A process has few clocks, and they run as long as it
// does.
func (c *sliceClock) run() {
	length := c.shape.SliceLength()
	left := length - c.set()%length
	time.AfterFunc(time.Duration(left), c.run)
}

// set sets the epoch and returns the time that it is of.
func (c *sliceClock) set() (now uint64) {
	now = c.now()
	c.epoch.Store(c.shape.Epoch(now))
	return now
}

// sliceClocks are the clocks of a registry. Its lock protects them.
type sliceClocks struct {
	now      func() uint64     // the time that they are set by
	start    func(*sliceClock) // has a clock set, now and whenever a slice begins
	byLength map[uint64]*sliceClock
}

func newSliceClocks(now func() uint64, start func(*sliceClock)) sliceClocks {
	return sliceClocks{now: now, start: start, byLength: make(map[uint64]*sliceClock)}
}

// of returns the clock for the slices of a window.
func (cs *sliceClocks) of(w *quantile.Window) *sliceClock {
	length := w.SliceLength()
	c := cs.byLength[length]
	if c == nil {
		c = &sliceClock{shape: *w, now: cs.now}
		cs.start(c)
		cs.byLength[length] = c
	}
	return c
}
