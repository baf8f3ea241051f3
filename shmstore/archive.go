package shmstore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/onescrape/onescrape/shmstore/internal/encoding"
)

// Archive is what the store keeps of processes that have died and whose files are removed: one file of the store, written anew
// by each fold. It is never changed once it is made or read.
type Archive struct {
	Generation uint64 // from 1
	ThisBoot   bool   // written since the kernel started, so its times of Monotonic compare
	AgedAt     uint64 // when ages were last added to, on Monotonic's clock; 0: before this boot, or never
	// Folded names files whose content the archive holds and which may still be in the directory, where they count no more.
	Folded []string
	// ArchivedThrough maps the nonce of a living file to the last release that the archive has of it.
	ArchivedThrough map[uint64]uint64
	Families        []ArchivedFamily
	// LeftOut is how many series of the file are not in Families, because no exposition may have them.
	LeftOut int

	checksum uint32 // of the file that it was read from
	unknown  bool   // there is something in it that this program has passed over
	image    *image // nil: it was not read or written yet
}

// image is the part of a payload that holds the families. Archives that follow each other share it when no family changed.
type image struct {
	b        []byte
	sum      uint32           // of b
	since    uint64           // the generation that wrote it first
	families []ArchivedFamily // that it holds
	agedAt   uint64
}

// holds reports whether the image is that of these families, which makes them the very same slice.
func (i *image) holds(a *Archive) bool {
	return i != nil && i.agedAt == a.AgedAt && len(i.families) == len(a.Families) &&
		(len(a.Families) == 0 || &i.families[0] == &a.Families[0])
}

// ArchivedFamily is a definition with the series that dead processes had of it. There is one for each Key. Those of an
// archive that was read are all in Packed; whoever makes the next archive keeps there what does not change.
type ArchivedFamily struct {
	Family
	Ready   bool   // a process that had it said that it serves
	ReadyAt uint64 // when the last one did, on Monotonic's clock; 0: before this boot
	Packed  PackedSeries
	Series  []ArchivedSeries // beside those in Packed
}

// Len returns how many series the family has.
func (f *ArchivedFamily) Len() int { return f.Packed.Len() + len(f.Series) }

// All returns all series, decoded.
func (f *ArchivedFamily) All() []ArchivedSeries { return append(f.Packed.All(), f.Series...) }

// ArchivedSeries is the sum of one series over dead processes.
type ArchivedSeries struct {
	Values  []string
	Created time.Time     // the oldest
	Age     time.Duration // for how long no process was seen with the series
	Words   []uint64      // what package aggregate makes of the cells; FORMAT.md has it

	Exemplars []Exemplar // the newest of each counter or bucket
}

// names returns the folded files as a set.
func (a *Archive) names() map[string]bool {
	set := map[string]bool{}
	if a != nil {
		for _, n := range a.Folded {
			set[n] = true
		}
	}
	return set
}

// Tags of an archive's parts. A fold does not change an archive that has a part with an unknown tag.
const (
	arcTagEnd     = 0
	arcTagFolded  = 1
	arcTagThrough = 2
	arcTagFamily  = 3
	// arcTagExemplar is an exemplar of a series of the family before it.
	arcTagExemplar = 4
)

// appendFamilies appends the part of a payload that holds the families, and makes the families pack what was appended.
func appendFamilies(b []byte, agedAt uint64, families []ArchivedFamily) []byte {
	b = encoding.AppendUint64(b, agedAt)
	for i := range families {
		b = appendArchivedFamily(b, &families[i])
	}
	return b
}

// sizeOf returns how many bytes appendFamilies appends, at least nearly.
func sizeOf(families []ArchivedFamily) int {
	n := 16
	for i := range families {
		f := &families[i]
		n += 64 + len(f.Key()) + len(f.Help) + len(f.Unit) + len(f.Packed.series) + len(f.Packed.exemplars)
		for j := range f.Series {
			n += packedHead + wordSize*len(f.Series[j].Words)
			for _, v := range f.Series[j].Values {
				n += binary.MaxVarintLen32 + len(v)
			}
		}
	}
	return n
}

// appendRest appends what follows the families.
func appendRest(b []byte, a *Archive) []byte {
	for _, name := range a.Folded {
		b = encoding.Native.AppendUint16(b, arcTagFolded)
		b = encoding.AppendString(b, name)
	}
	for _, nonce := range slices.Sorted(maps.Keys(a.ArchivedThrough)) {
		b = encoding.Native.AppendUint16(b, arcTagThrough)
		b = encoding.AppendUint64(b, nonce)
		b = encoding.AppendUint64(b, a.ArchivedThrough[nonce])
	}
	return encoding.Native.AppendUint16(b, arcTagEnd)
}

func appendArchivedFamily(b []byte, f *ArchivedFamily) []byte {
	b = encoding.Native.AppendUint16(b, arcTagFamily)
	body := appendFamily(nil, &f.Family)
	b = encoding.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	ready := byte(0)
	if f.Ready {
		ready = 1
	}
	b = append(b, ready)
	b = encoding.AppendUint64(b, f.ReadyAt)
	b = encoding.AppendUint32(b, uint32(f.Len()))
	series := len(b)
	b = append(b, f.Packed.series...)
	for i := range f.Series {
		b = appendArchivedSeries(b, &f.Series[i])
	}
	exemplars := len(b)
	b = append(b, f.Packed.exemplars...)
	for i := range f.Series {
		for j := range f.Series[i].Exemplars {
			b = appendArchivedExemplar(b, f.Packed.n+i, &f.Series[i].Exemplars[j])
		}
	}
	f.Packed = PackedSeries{labels: len(f.Labels), n: f.Len(), series: b[series:exemplars:exemplars], exemplars: b[exemplars:len(b):len(b)]}
	f.Series = nil
	return b
}

// decodeArchive reads a payload. The families keep parts of b.
func decodeArchive(b []byte) (*Archive, error) {
	d := encoding.Decoder{B: b}
	agedAt := d.Uint64()
	if d.Bad {
		return nil, corrupt("it ends early")
	}
	a, err := decodeParts(d.B)
	if err != nil {
		return nil, err
	}
	if a.AgedAt = agedAt; a.image != nil {
		a.image.b = b[:wordSize+len(a.image.b)]
		a.image.sum, a.image.agedAt = encoding.Checksum(a.image.b), agedAt
	}
	return a, nil
}

// decodeParts reads the parts of a payload. The image is that of the parts of families, nil when they do not lie before all
// others or something was left out.
func decodeParts(b []byte) (*Archive, error) {
	d := encoding.Decoder{B: b}
	a := &Archive{ArchivedThrough: map[uint64]uint64{}}
	img := &image{}
	var family archivedPart
	var weights []int64
	begun := false // a part that is not a family's has come
	whole := true  // the image is what would be written again
	for !d.Bad {
		at := len(b) - len(d.B)
		tag := d.Uint16()
		if tag != arcTagFamily && tag != arcTagExemplar && !begun {
			begun = true
			img.b = b[:at:at]
		}
		switch tag {
		case arcTagEnd:
			if d.Bad || len(d.B) > 0 {
				return nil, corrupt("it does not end where it should")
			}
			if !a.lighten(weights, archiveBudget(int64(len(b)))) {
				whole = false
			}
			if img.families = a.Families; whole {
				a.image = img
			}
			return a, nil
		case arcTagFolded:
			a.Folded = append(a.Folded, d.String())
		case arcTagThrough:
			nonce := d.Uint64()
			a.ArchivedThrough[nonce] = d.Uint64()
		case arcTagFamily:
			var err error
			if family, err = decodeArchivedFamily(&d); err != nil {
				return nil, err
			}
			a.LeftOut += family.leftOut
			whole = whole && !begun && family.usable && family.leftOut == 0
			if family.usable {
				a.Families = append(a.Families, family.ArchivedFamily)
				weights = append(weights, family.weight)
				a.unknown = a.unknown || !family.known
			}
		case arcTagExemplar:
			kept, err := decodeArchivedExemplar(&d, a, &family)
			if err != nil {
				return nil, err
			}
			whole = whole && !begun && kept
		default:
			return nil, fmt.Errorf("%w: it has a part of kind %d, which this program does not know", ErrVersion, tag)
		}
	}
	return nil, corrupt("it ends early")
}

// archivedPart is a family as it lies in an archive. What fails Family.Check or CheckValue is left out, and nothing else for
// it: the archive's checksum is right, so no fold would mend it, and the generation before has lower sums.
type archivedPart struct {
	ArchivedFamily
	known   bool
	usable  bool    // the definition may be exposed
	leftOut int     // series
	weight  int64   // see Budget
	places  []int32 // where each series is in Packed, -1 for one that is left out; nil: as in the file
}

// place returns where series i of the file is in Packed, -1 if it is left out.
func (p *archivedPart) place(i uint32) int {
	switch {
	case !p.usable:
		return -1
	case p.places != nil && uint64(i) < uint64(len(p.places)):
		return int(p.places[i])
	case p.places == nil && uint64(i) < uint64(p.Packed.n):
		return int(i)
	default:
		return -1
	}
}

func decodeArchivedFamily(d *encoding.Decoder) (p archivedPart, err error) {
	body := d.Take(uint64(d.Uint32()))
	p.Family, p.known, err = decodeFamily(body)
	p.usable = err == nil
	labels := len(p.Labels)
	if !p.usable {
		// The number of labels is enough to find the end of the series.
		head := encoding.Decoder{B: body}
		head.Uint16()
		if labels = int(head.Uint16()); head.Bad || labels > maxLabels {
			return p, err
		}
	}
	p.Ready = d.Uint8() != 0
	p.ReadyAt = d.Uint64()
	n := d.Uint32()
	text := int64(0)
	p.Packed, p.places, text = takePacked(d, labels, n)
	if d.Bad {
		return p, corrupt("family %s ends early", p.Name)
	}
	if p.leftOut = int(n) - p.Packed.n; !p.usable {
		p.leftOut = int(n)
	} else if w := p.textWeight(); !p.TooLong() {
		p.weight = w.copies * (w.names*int64(n) + text)
	}
	return p, nil
}

// decodeArchivedExemplar reads an exemplar of a series of the family before it. One that cannot be shown, or whose series is
// left out, is not kept.
func decodeArchivedExemplar(d *encoding.Decoder, a *Archive, family *archivedPart) (kept bool, err error) {
	place := family.place(d.Uint32())
	e := Exemplar{Value: d.Float(), At: int64(d.Uint64())}
	e.Labels = d.Take(uint64(d.Uint32()))
	if d.Bad {
		return false, corrupt("an exemplar that ends early")
	}
	if _, ok := e.Pairs(); !ok || place < 0 || family.ExemplarSlots() == 0 {
		return false, nil
	}
	p := &a.Families[len(a.Families)-1].Packed
	p.exemplars = appendArchivedExemplar(p.exemplars, place, &e)
	return true, nil
}
