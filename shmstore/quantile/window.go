package quantile

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Window is what a summary with objectives has beside its count and sum: sketches of the latest observations, in slices of
// time. The slices are numbered on Monotonic's clock, alike in all processes of a boot.
type Window struct {
	Objectives []float64     // the quantiles that are asked for, strictly ascending
	Age        time.Duration // for how long an observation counts
	Slices     int           // into which Age is divided: an observation counts up to one slice shorter than Age
	Resolution int           // buckets an octave
}

// Limits of a window. A file that exceeds one is corrupt.
const (
	MaxSlices     = 60
	MaxObjectives = 1024
)

// SliceLength returns how long a slice is, in nanoseconds.
func (w *Window) SliceLength() uint64 { return uint64(w.Age) / uint64(w.Slices) }

// Epoch returns the number of the slice at a time of Monotonic, never 0. It is kept in place Epoch mod Slices.
func (w *Window) Epoch(at uint64) uint64 { return at/w.SliceLength() + 1 }

// Counts reports whether the observations in the slice of an epoch are, at now, among those of the latest length
// nanoseconds, as far as whole slices can tell: whether the slice began within them.
func (w *Window) Counts(epoch, now, length uint64) bool {
	if epoch == 0 || epoch > w.Epoch(now)+1 {
		return false
	}
	began := (epoch - 1) * w.SliceLength()
	return began >= now || now-began < length
}

// Length returns what Counts is asked with for the window's own age, in nanoseconds.
func (w *Window) Length() uint64 { return w.SliceLength() * uint64(w.Slices) }

// A window is a block of words: what it is, the offset of its first octave, 0 when it has none, and these for each slice.
const (
	WindowOctaves = 1
	WindowSlices  = 2

	SliceEpoch = 0 // 0: the slice holds nothing, or is about to
	SliceZero  = 1 // counts of what is in no octave
	SliceBelow = 2
	SliceAbove = 3
	SliceWords = 4
)

// auxWindow is the kind of an extra block that holds a window, see auxExemplars.
const auxWindow = 2

// WindowHead returns the first word of a window of n words.
func WindowHead(n int) uint64 { return auxWindow | uint64(n-1)<<32 }

// Words returns how many words the block of a window has.
func (w *Window) Words() int { return WindowSlices + SliceWords*w.Slices }

// The counts of an octave are in a block of their own, which comes with the octave's first observation and stays: its
// number, the offset of the next octave's block, and for each slice the counts of its buckets.
const (
	OctaveNumber = 0
	OctaveNext   = 1
	OctaveCounts = 2
)

// OctaveWords returns how many words the block of an octave has.
func (w *Window) OctaveWords() int { return OctaveCounts + w.Slices*w.Resolution }

// windowTries is how often a window is read that changes while it is read. A window changes once in each slice.
const windowTries = 4

// AppendCounts appends what is counted in the window that begins at words[at], in the slices of the latest length
// nanoseconds before now: the number of pairs, and pairs of a BucketID and a count that is not zero. When no quiet moment
// is found in a few tries the number is 0. It trusts nothing that it reads. budget is how many words of octaves may be
// looked at, and is lowered by those that were: all windows of a file have no more than it has words, unless somebody made
// them overlap.
func (w *Window) AppendCounts(to, words []uint64, at int, now, length uint64, budget *int) []uint64 {
	n := len(to)
	if atomic.LoadUint64(&words[at]) != WindowHead(w.Words()) {
		return append(to, 0)
	}
	var epochs [MaxSlices]uint64
	slices := words[at+WindowSlices:][:SliceWords*w.Slices]
	for range windowTries {
		to = append(to[:n], 0)
		any := false
		for i := range w.Slices {
			epochs[i] = atomic.LoadUint64(&slices[i*SliceWords+SliceEpoch])
			if !w.Counts(epochs[i], now, length) {
				epochs[i] = 0
			}
			any = any || epochs[i] != 0
		}
		if !any {
			return to
		}
		for i, id := range [...]BucketID{ZeroBucket, BelowBucket, AboveBucket} {
			to = appendCount(to, id, w.sum(slices[SliceZero+i:], SliceWords, &epochs))
		}
		left := *budget
		to = w.appendOctaves(to, words, atomic.LoadUint64(&words[at+WindowOctaves]), &epochs, &left)
		stable := true
		for i := range w.Slices {
			stable = stable && (epochs[i] == 0 || atomic.LoadUint64(&slices[i*SliceWords+SliceEpoch]) == epochs[i])
		}
		if stable {
			*budget = left
			to[n] = uint64(len(to)-n-1) / 2
			return to
		}
	}
	return append(to[:n], 0)
}

func (w *Window) appendOctaves(to, words []uint64, offset uint64, epochs *[MaxSlices]uint64, budget *int) []uint64 {
	var seen [Octaves]bool
	for range Octaves {
		at := offset / wordBytes
		if at < firstWord || offset%wordBytes != 0 || at > uint64(len(words)) ||
			uint64(len(words))-at < uint64(w.OctaveWords()) {
			// There is no further one, or it came after the file was mapped.
			break
		}
		block := words[at:][:w.OctaveWords()]
		octave := atomic.LoadUint64(&block[OctaveNumber])
		if *budget -= len(block); octave >= Octaves || seen[octave] || *budget < 0 {
			break
		}
		seen[octave] = true
		for i := range w.Resolution {
			to = appendCount(to, InOctave(octave, i), w.sum(block[OctaveCounts+i:], w.Resolution, epochs))
		}
		offset = atomic.LoadUint64(&block[OctaveNext])
	}
	return to
}

// Header is how many bytes of a file are its header. Nothing of a window is there.
const Header = 4096

// wordBytes is how many bytes a word has; firstWord is the first word of a file behind its header.
const (
	wordBytes = 8
	firstWord = Header / wordBytes
)

// MaxCount is where counts begin that no process can have counted up to.
const MaxCount = 1 << 63

// sum adds up the counts of the slices that have an epoch, which are step words apart.
func (w *Window) sum(counts []uint64, step int, epochs *[MaxSlices]uint64) (sum uint64) {
	for i := range w.Slices {
		if epochs[i] == 0 {
			continue
		}
		if n := atomic.LoadUint64(&counts[i*step]); n < MaxCount {
			sum = addCount(sum, n)
		}
	}
	return sum
}

func appendCount(to []uint64, id BucketID, n uint64) []uint64 {
	if n == 0 {
		return to
	}
	return append(to, uint64(id), n)
}

// String says all of a window; it is equal for two exactly when they are.
func (w *Window) String() string {
	if w == nil {
		return "none"
	}
	return fmt.Sprintf("%v of %v in %d slices, %d buckets an octave", w.Objectives, w.Age, w.Slices, w.Resolution)
}
