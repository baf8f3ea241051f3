package shmstore

import (
	"fmt"
	"time"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

func appendWindow(b []byte, w *quantile.Window) []byte {
	b = encoding.AppendUint64(b, uint64(w.Age))
	b = encoding.AppendUint32(b, uint32(w.Slices))
	b = encoding.AppendUint32(b, uint32(w.Resolution))
	for _, q := range w.Objectives {
		b = encoding.AppendFloat(b, q)
	}
	return b
}

func decodeWindow(d *encoding.Decoder) *quantile.Window {
	w := &quantile.Window{Age: time.Duration(d.Uint64()), Slices: int(d.Uint32()), Resolution: int(d.Uint32())}
	for len(d.B) >= wordSize && len(w.Objectives) <= quantile.MaxObjectives {
		w.Objectives = append(w.Objectives, d.Float())
	}
	return w
}

// AddOctave gives the window of a series an octave, which it must not have yet, and returns its block, whose counts are
// zero. ErrFull when there is no space for it.
func (w *Writer) AddOctave(s *Series, octave uint64) ([]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.window == 0 || s.state != seriesShown && s.state != seriesHidden {
		return nil, fmt.Errorf("shmstore: add an octave: the series has no window")
	}
	offset, err := w.space.cells(s.octaveWords)
	if err != nil {
		return nil, fmt.Errorf("shmstore: add an octave: %w", err)
	}
	w.memory.Zero(offset, s.octaveWords)
	w.memory.Store(offset+quantile.OctaveNumber*wordSize, octave)
	// Readers that have mapped the file as it was before find the new block last, and all others.
	last := s.window + quantile.WindowOctaves*wordSize
	for next := int64(w.memory.Load(last)); next != 0; next = int64(w.memory.Load(last)) {
		last = next + quantile.OctaveNext*wordSize
	}
	w.memory.Store(last, uint64(offset))
	return w.memory.Words[offset/wordSize:][:s.octaveWords:s.octaveWords], nil
}

// addWindow makes the block of the window of a new series.
func (w *Writer) addWindow(s *Series, kind *familyKind) error {
	if kind.window == 0 {
		return nil
	}
	offset, err := w.space.cells(kind.window)
	if err != nil {
		return err
	}
	w.memory.Zero(offset, kind.window)
	w.memory.Store(offset, quantile.WindowHead(kind.window))
	s.window, s.octaveWords = offset, kind.octave
	s.Window = w.memory.Words[offset/wordSize:][:kind.window:kind.window]
	return nil
}

// giveWindow takes the blocks of a series back that is over.
func (w *Writer) giveWindow(s *Series) {
	if s.window == 0 {
		return
	}
	for at := int64(w.memory.Load(s.window + quantile.WindowOctaves*wordSize)); at != 0; {
		next := int64(w.memory.Load(at + quantile.OctaveNext*wordSize))
		w.space.giveCells(at, s.octaveWords)
		at = next
	}
	w.space.giveCells(s.window, len(s.Window))
	s.window = 0
}
