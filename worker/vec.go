package worker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// errCardinality has client_golang's words.
var errCardinality = errors.New("inconsistent label cardinality")

// vec is what the vectors of all types have in common: a definition, and the label values that were curried.
type vec struct {
	def   *definition
	curry []curriedValue // ascending by index
}

// curriedValue is the value that the index-th variable label always has.
type curriedValue struct {
	index int
	value string
}

// inlineValues is up to how many labels a look-up by names, or through a curried vector, takes no allocation.
const inlineValues = 16

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// handle returns the handle that s is part of as a T.
func handle[T any](s *series, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return s.metric.(T), nil
}

// find returns the series of these values, or nil where there is none or their number is wrong. It is the hot path: it
// keeps neither lvs nor anything in it.
func (v *vec) find(lvs []string) *series {
	if c := v.def.constraints.Load(); c != nil {
		lvs = v.constrain(c, lvs)
	}
	return v.lookUp(lvs)
}

// lookUp is find for values that are as they come out.
func (v *vec) lookUp(lvs []string) *series {
	if len(lvs) != len(v.def.names)-len(v.curry) {
		return nil
	}
	if len(v.curry) != 0 {
		return v.findCurried(lvs)
	}
	return v.def.table.Load().find(hashValues(lvs), lvs)
}

// findCurried is find for a curried vector. It puts the values together on the stack, one by one: append and copy would
// let them escape.
func (v *vec) findCurried(lvs []string) *series {
	var buf [inlineValues]string
	if len(v.def.names) > len(buf) {
		all := inline(v.curry, cloneStrings(lvs))
		return v.def.table.Load().find(hashValues(all), all)
	}
	i := 0
	for _, c := range v.curry {
		for ; i < c.index; i++ {
			buf[i], lvs = lvs[0], lvs[1:]
		}
		buf[i] = c.value
		i++
	}
	for _, s := range lvs {
		buf[i] = s
		i++
	}
	return v.def.table.Load().find(hashValues(buf[:i]), buf[:i])
}

// cloneStrings returns a copy of a and of all strings in it, so that a caller's may stay on its stack.
func cloneStrings(a []string) []string {
	var c []string
	for _, s := range a {
		c = append(c, strings.Clone(s))
	}
	return c
}

// inline returns the values of all variable labels: the curried ones and lvs, whose number is right.
func inline(curry []curriedValue, lvs []string) []string {
	all := make([]string, 0, len(curry)+len(lvs))
	for _, c := range curry {
		n := c.index - len(all)
		all = append(append(all, lvs[:n]...), c.value)
		lvs = lvs[n:]
	}
	return append(all, lvs...)
}

// get returns the series of these values and makes it if it does not exist.
func (v *vec) get(lvs []string) (*series, error) {
	if s := v.find(lvs); s != nil {
		return s, nil
	}
	return v.create(lvs)
}

// create is get after find found nothing.
func (v *vec) create(lvs []string) (*series, error) {
	own := v.constrain(v.def.constraints.Load(), lvs)
	if want := len(v.def.names) - len(v.curry); len(own) != want {
		return nil, fmt.Errorf("%w: expected %d label values but got %d in %#v", errCardinality, want, len(own), own)
	}
	for _, s := range own {
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("label value %q is not valid UTF-8", s)
		}
	}
	return v.def.create(inline(v.curry, own)), nil
}

// getWith is get by label names.
func (v *vec) getWith(labels prometheus.Labels) (*series, error) {
	if c := v.def.constraints.Load(); c != nil {
		labels = v.constrainLabels(c, labels)
	}
	if s := v.findWith(labels); s != nil {
		return s, nil
	}
	if err := v.checkLabels(labels); err != nil {
		return nil, err
	}
	lvs := make([]string, 0, len(labels))
	for i, name := range v.def.names {
		if !v.curried(i) {
			lvs = append(lvs, strings.Clone(labels[name]))
		}
	}
	return v.def.create(inline(v.curry, lvs)), nil
}

// findWith is lookUp by label names. It is nil, too, when labels are not just the uncurried ones.
func (v *vec) findWith(labels prometheus.Labels) *series {
	var buf [inlineValues]string
	lvs := buf[:0]
	for i, name := range v.def.names {
		value, ok := labels[name]
		if ok == v.curried(i) {
			return nil
		}
		if ok {
			lvs = append(lvs, value)
		}
	}
	if len(lvs) != len(labels) {
		return nil
	}
	return v.lookUp(lvs)
}

// checkLabels returns an error for labels that are not the vector's, in client_golang's order and words.
func (v *vec) checkLabels(labels prometheus.Labels) error {
	if want := len(v.def.names) - len(v.curry); len(labels) != want {
		return fmt.Errorf("%w: expected %d label values but got %d in %#v",
			errCardinality, want, len(labels), maps.Clone(labels))
	}
	for name, value := range labels {
		if !utf8.ValidString(value) {
			return fmt.Errorf("label %s: value %q is not valid UTF-8", name, value)
		}
	}
	for i, name := range v.def.names {
		_, ok := labels[name]
		switch curried := v.curried(i); {
		case ok && curried:
			return fmt.Errorf("label name %q is already curried", name)
		case !ok && !curried:
			return fmt.Errorf("label name %q missing in label map", name)
		}
	}
	return nil
}

// curried reports whether the i-th variable label was curried.
func (v *vec) curried(i int) bool {
	return slices.ContainsFunc(v.curry, func(c curriedValue) bool { return c.index == i })
}

func (v *vec) curryWith(labels prometheus.Labels) (vec, error) {
	var curry []curriedValue
	old := v.curry
	for i, name := range v.def.names {
		value, ok := labels[name]
		switch {
		case len(old) > 0 && old[0].index == i:
			if ok {
				return vec{}, fmt.Errorf("label name %q is already curried", name)
			}
			curry, old = append(curry, old[0]), old[1:]
		case ok:
			value = v.def.constraints.Load().value(i, strings.Clone(value))
			if !utf8.ValidString(value) {
				return vec{}, fmt.Errorf("label %s: value %q is not valid UTF-8", name, value)
			}
			curry = append(curry, curriedValue{i, value})
		}
	}
	if n := len(v.curry) + len(labels) - len(curry); n > 0 {
		return vec{}, fmt.Errorf("%d unknown label(s) found during currying", n)
	}
	return vec{v.def, curry}, nil
}

// Delete removes the series with these labels and reports whether there was one. There is none when the labels are not
// exactly the vector's. A handle to it stays usable, but what it counts is not shown.
//
// In a prefork server the value of a gauge leaves the scrape at once. A counter, histogram or summary leaves when every
// live worker that had it has deleted it. Until then what this worker counted stays in the sum, because Prometheus would
// take a smaller sum for a restart. Made again, it goes on with its old value until the garbage collector and a fold have
// removed the old one; without a store it starts at zero.
func (v *vec) Delete(labels prometheus.Labels) bool {
	if c := v.def.constraints.Load(); c != nil {
		labels = v.constrainLabels(c, labels)
	}
	return v.def.remove(v.findWith(labels))
}

// DeleteLabelValues is Delete by values in the order of the label names.
func (v *vec) DeleteLabelValues(lvs ...string) bool {
	return v.def.remove(v.find(lvs))
}

// DeletePartialMatch deletes, as Delete does, every series that has all of these labels, and returns how many. A
// curried label matches nothing, and a curried vector's other values do not restrict what is deleted, as in
// client_golang.
func (v *vec) DeletePartialMatch(labels prometheus.Labels) int {
	type match struct {
		index int
		value string
	}
	if c := v.def.constraints.Load(); c != nil {
		labels = v.constrainLabels(c, labels)
	}
	var matches []match
	for name, value := range labels {
		i := slices.Index(v.def.names, name)
		if i < 0 || v.curried(i) {
			return 0
		}
		matches = append(matches, match{i, value})
	}
	n := 0
	for s := range v.def.table.Load().all() {
		if !slices.ContainsFunc(matches, func(m match) bool { return s.values[m.index] != m.value }) && v.def.remove(s) {
			n++
		}
	}
	return n
}

// Reset deletes all series as Delete does, also those that the curried vector cannot reach.
func (v *vec) Reset() {
	for s := range v.def.table.Load().all() {
		v.def.remove(s)
	}
}

// Describe implements prometheus.Collector.
func (v *vec) Describe(ch chan<- *prometheus.Desc) { v.def.Describe(ch) }

// Collect sends this process's series. It implements prometheus.Collector.
func (v *vec) Collect(ch chan<- prometheus.Metric) { v.def.Collect(ch) }

// scalar returns the one series of a definition without variable labels.
func (v *vec) scalar() *series { return must(v.get(nil)) }

// view returns client_golang's form of the vector.
func (v *vec) view() *prometheus.MetricVec {
	curry := make(prometheus.Labels, len(v.curry))
	for _, c := range v.curry {
		curry[v.def.names[c.index]] = c.value
	}
	return must(v.def.metricVec().CurryWith(curry))
}
