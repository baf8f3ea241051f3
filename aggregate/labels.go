package aggregate

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// withSlot adds the label that tells slots apart, in its place. A label of that name that the metric has itself keeps it.
func withSlot(names, values []string, label, slot string) (allNames, allValues []string) {
	i, taken := slices.BinarySearch(names, label)
	for taken {
		label = "onescrape_" + label
		i, taken = slices.BinarySearch(names, label)
	}
	return slices.Insert(slices.Clone(names), i, label), slices.Insert(slices.Clone(values), i, slot)
}

// identity appends a key that two label sets share exactly when Prometheus takes them for the same: a label with an
// empty value is no label.
func identity(b []byte, names, values []string) []byte {
	for i, v := range values {
		if v != "" {
			b = append(binary.AppendUvarint(b, uint64(len(names[i]))), names[i]...)
			b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
		}
	}
	return b
}

// moreLabels reports whether names replace old as the label names of a row. Both name the same labels, except labels whose value
// is empty. The longer list wins; of two of one length, the one that sorts first wins. So every scraper exposes the same.
func moreLabels(names, old []string) bool {
	if len(names) != len(old) {
		return len(names) > len(old)
	}
	if len(names) == 0 || &names[0] == &old[0] {
		return false // most are shared, see addContribution
	}
	return slices.Compare(names, old) < 0
}

// labelPairs makes labels that every scrape's result shares; the capacity keeps who appends to it from writing here.
func labelPairs(names, values []string) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, len(names))
	for i := range names {
		pairs[i] = &dto.LabelPair{Name: new(names[i]), Value: new(strings.Clone(values[i]))}
	}
	return pairs
}

// compareLabels is the order in which client_golang's registry returns the metrics of a family, made total.
func compareLabels(a, b []*dto.LabelPair) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	for i := range a {
		if c := strings.Compare(a[i].GetValue(), b[i].GetValue()); c != 0 {
			return c
		}
	}
	for i := range a {
		if c := strings.Compare(a[i].GetName(), b[i].GetName()); c != 0 {
			return c
		}
	}
	return 0
}
