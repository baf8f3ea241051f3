package foreign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/onescrape/onescrape/shmstore"
)

const (
	headSize   = 8
	lengthSize = 4
	doubleSize = 8
)

// maxUsed is more than a signed 4 byte length announces.
const maxUsed = 1 << 31

// maxKey is more than a key has that names a metric: a label's value or a help text in it has at most 1 MiB.
const maxKey = 16 << 20

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", shmstore.ErrCorrupt, fmt.Sprintf(format, args...))
}

// usedLength returns how much of a file is used, less than headSize for a file in which nothing is yet.
func usedLength(b []byte) (int64, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case len(b) < headSize:
		return 0, corrupt("it is %d bytes long, which is less than a header", len(b))
	}
	used := int64(int32(binary.NativeEndian.Uint32(b)))
	switch {
	case used == 0:
		return 0, nil
	case used < headSize || used%8 != 0:
		return 0, corrupt("%d of its bytes are said to be used", used)
	default:
		return used, nil
	}
}

// walk calls do with each entry from offset from to used: its key and the offset of its value. The entries must fill
// that range, and whatever pads a key must be spaces.
func (l *Library) walk(b []byte, from, used int64, doubles int, do func(key []byte, value int64) error) error {
	for at := from; at < used; {
		if used-at < lengthSize {
			return corrupt("at %d: an entry behind the end", at)
		}
		length := int64(int32(binary.NativeEndian.Uint32(b[at:])))
		end := at + lengthSize + length
		value := end
		if !l.Padded {
			value = end + 8 - (end-at)%8
		}
		if length <= 0 || length > maxKey || (value-at)%8 != 0 || value+int64(doubles)*doubleSize > used {
			return corrupt("at %d: a key of %d bytes where %d are left", at, length, used-at)
		}
		for _, c := range b[end:value] {
			if c != ' ' {
				return corrupt("at %d: a key that is not padded with spaces", at)
			}
		}
		if err := do(b[at+lengthSize:end], value); err != nil {
			return err
		}
		at = value + int64(doubles)*doubleSize
	}
	return nil
}

// judge finds out how many float64s an entry has: with that many, and no other number, the whole file makes sense.
// sense reports whether a key does.
func (l *Library) judge(b []byte, used int64, sense func(key []byte) error) (doubles int, err error) {
	var fit []int
	for _, n := range l.Doubles {
		e := l.walk(b, headSize, used, n, func([]byte, int64) error { return nil })
		if e == nil {
			fit = append(fit, n)
		} else {
			err = e
		}
	}
	if len(fit) > 1 {
		// A length that is right by accident leads to a key that is none.
		fit = slices.DeleteFunc(fit, func(n int) bool {
			e := l.walk(b, headSize, used, n, func(key []byte, _ int64) error { return sense(key) })
			if e != nil {
				err = e
			}
			return e != nil
		})
	}
	switch len(fit) {
	case 0:
		if l.mixed(b, used) {
			return 0, l.mixture()
		}
		return 0, err
	case 1:
		return fit[0], nil
	default:
		return 0, corrupt("its entries can be read with %d numbers each and with %d", fit[0], fit[1])
	}
}

// mixed reports whether a file has entries with different numbers of float64s, each followed by one that can be.
func (l *Library) mixed(b []byte, used int64) bool {
	if len(l.Doubles) < 2 {
		return false
	}
	for at := int64(headSize); at < used; {
		next := int64(0)
		for _, n := range l.Doubles {
			if end, ok := l.entryEnd(b, at, used, n); ok && (end == used || l.begins(b, end, used)) {
				next = end
				break
			}
		}
		if next == 0 {
			return false
		}
		at = next
	}
	return true
}

// begins reports whether an entry with some number of float64s can begin at an offset.
func (l *Library) begins(b []byte, at, used int64) bool {
	for _, n := range l.Doubles {
		if _, ok := l.entryEnd(b, at, used, n); ok {
			return true
		}
	}
	return false
}

// entryEnd returns the end of the entry at an offset, and whether there can be one with that many float64s.
func (l *Library) entryEnd(b []byte, at, used int64, doubles int) (end int64, ok bool) {
	if used-at < lengthSize {
		return 0, false
	}
	length := int64(int32(binary.NativeEndian.Uint32(b[at:])))
	keyEnd := at + lengthSize + length
	value := keyEnd
	if !l.Padded {
		value = keyEnd + 8 - (keyEnd-at)%8
	}
	end = value + int64(doubles)*doubleSize
	if length <= 0 || length > maxKey || (value-at)%8 != 0 || end > used {
		return 0, false
	}
	return end, len(bytes.Trim(b[keyEnd:value], " ")) == 0
}

// mixture is the error of a file that two versions of the library have written to.
func (l *Library) mixture() error {
	return corrupt("it has entries of two versions of %s, with %d number each and with %d: stop the server, empty the directory and "+
		"start the server again", l.Name, l.Doubles[0], l.Doubles[1])
}
