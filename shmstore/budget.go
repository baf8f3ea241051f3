package shmstore

// What a reader makes of a file is bounded by the bytes of the file: the text of its samples, of which each repeats the
// names of the family, and its cells, which no two series share.

// Budget is how many bytes of text the samples of a file may have: a multiple of its length, and BudgetFloor for one that
// is short. Honest files are far below it.
func Budget(length int64) int64 { return max(64*length, BudgetFloor) }

// BudgetFloor is the least budget.
const BudgetFloor = 4 << 20

// Lines returns how many samples a series of the family has.
func (f *Family) Lines() int64 {
	switch f.Type {
	case HistogramType:
		return int64(len(f.Bounds)) + 3
	case SummaryType:
		n := int64(2)
		if f.Window != nil {
			n += int64(len(f.Window.Objectives))
		}
		return n
	default:
		return 1
	}
}

// TextSize returns how many bytes the samples of a series have, about.
func (f *Family) TextSize(values []string) int64 {
	const number = 32 // a value and the label of a bucket
	n := int64(len(f.Name) + number)
	for i, l := range f.Labels {
		n += int64(len(l) + len(values[i]) + 4)
	}
	return n * f.Lines()
}

// weigh makes sure that the series are within the file's budget, and that no two of them share cells. It says nothing
// while the writer changes its layout, because cells may be seen on their way from one series to the next.
func (r *Reader) weigh(layout uint64, first int) error {
	if first == 0 {
		r.text, r.cells = 0, nil
	}
	if n := (len(r.memory.words) + 63) / 64; n > len(r.cells) {
		r.cells = append(r.cells, make([]uint64, n-len(r.cells))...)
	}
	shared := -1
	for i := first; i < len(r.series); i++ {
		s := &r.series[i]
		if s.Free {
			continue
		}
		r.text += r.families[s.Family].TextSize(s.Values)
		if !r.claim(s.Cell, s.Words) && shared < 0 {
			shared = i
		}
	}
	if r.memory.load(hdrLayout) != layout {
		return nil // and the next Refresh begins with all of them
	}
	if shared >= 0 {
		return corrupt("at %d: a series with cells of another one", r.records[shared].offset())
	}
	if r.text > Budget(r.size) {
		return corrupt("its samples have %d bytes of text, the file has %d", r.text, r.size)
	}
	return nil
}

// claim notes that words are a series' cells. It returns false when some of them are another's.
func (r *Reader) claim(first, n uint32) bool {
	own := true
	for i := first; i < first+n; {
		word, bit := i/64, i%64
		width := min(64-bit, first+n-i)
		mask := (^uint64(0) >> (64 - width)) << bit
		own = own && r.cells[word]&mask == 0
		r.cells[word] |= mask
		i += width
	}
	return own
}
