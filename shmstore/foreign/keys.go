package foreign

import (
	"bytes"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/onescrape/onescrape/shmstore"
)

// sample is a Sample ready for use.
type sample struct {
	Sample
	def *shmstore.Family // shared by all samples of one definition, so that it is known by its address
	pid int              // the index of the label pid in Values when there is a series for each process; else -1
}

// keys remembers what keys mean while many files are parsed, because the processes of one server write the same ones.
type keys struct {
	lib     *Library
	classes map[string]map[string]*sample
	defs    map[string]*shmstore.Family
}

func newKeys(lib *Library) *keys {
	return &keys{lib: lib, classes: map[string]map[string]*sample{}, defs: map[string]*shmstore.Family{}}
}

// get returns what a key means.
func (k *keys) get(kind *Kind, key []byte) (*sample, error) {
	class := k.classes[kind.Class]
	if class == nil {
		class = map[string]*sample{}
		k.classes[kind.Class] = class
	}
	if s := class[string(key)]; s != nil {
		return s, nil
	}
	text := string(bytes.TrimRight(key, " "))
	if !utf8.ValidString(text) {
		return nil, corrupt("a key that is not UTF-8: %.100q", text)
	}
	from := k.lib.Sample(kind, text)
	if from == nil {
		return nil, corrupt("a key that means nothing: %.100q", text)
	}
	s := &sample{Sample: *from, pid: -1}
	f := &s.Family
	if s.PerProcess {
		f.Labels, s.Values = slices.Clone(f.Labels), slices.Clone(s.Values)
		var taken bool
		if s.pid, taken = slices.BinarySearch(f.Labels, pidLabel); !taken {
			f.Labels, s.Values = slices.Insert(f.Labels, s.pid, pidLabel), slices.Insert(s.Values, s.pid, "")
		}
	}
	if err := f.Check(); err != nil || len(s.Values) != len(f.Labels) || s.Part == Bucket && math.IsNaN(s.Bound) {
		return nil, corrupt("a key that cannot be: %.100q", text)
	}
	for _, v := range s.Values {
		// It would spoil the exposition, or the archive.
		if shmstore.CheckValue(v) != nil {
			return nil, corrupt("a key with a label value that cannot be: %.100q", text)
		}
	}
	id := f.Key() + "\x00" + f.Help
	if s.def = k.defs[id]; s.def == nil {
		s.def = f
		k.defs[id] = f
	}
	class[string(key)] = s
	return s, nil
}
