package aggregate

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Small files of the libraries for Ruby do not become large in a scraper.
func TestSmallRubyFilesDoNotExpand(t *testing.T) {
	long(t)
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	number := func(n int) string { return strconv.FormatInt(int64(n), 36) }
	for _, c := range []struct {
		name    string
		library string
		file    string
		keys    func() []string
		reason  string // "": nothing is left out
	}{
		{"bounds and label sets", "prometheus-client-mmap", "histogram_2-0.db", func() []string {
			return product(rubyLibraries["prometheus-client-mmap"])
		}, "corrupt"},
		{"bounds and label sets", "client_ruby", "metric_h___2.bin", func() []string {
			return product(rubyLibraries["client_ruby"])
		}, "corrupt"},
		{"a family for each entry", "prometheus-client-mmap", "counter_2-0.db", func() (keys []string) {
			for i := range 50_000 {
				keys = append(keys, mmapKey("a"+number(i), "a"+number(i)))
			}
			return keys
		}, ""},
		{"label names of its own for each entry", "client_ruby", "metric_" + strings.Repeat("c", 200) + "_total___2.bin", func() (keys []string) {
			for i := range 50_000 {
				keys = append(keys, "a"+number(i))
			}
			return keys
		}, ""},
		{"many short labels", "client_ruby", "metric_c_total___2.bin", func() (keys []string) {
			var labels strings.Builder
			for i := range 52 { // A to Z, a to z
				fmt.Fprintf(&labels, "&%c", 'A'+i%26+i/26*32)
			}
			for i := range 10_000 {
				keys = append(keys, "_="+number(i)+labels.String())
			}
			return keys
		}, ""},
		{"many series of a long name", "client_ruby", "metric_" + strings.Repeat("c", 200) + "___2.bin", func() (keys []string) {
			for i := range 50_000 {
				keys = append(keys, "a="+number(i))
			}
			return keys
		}, ""},
	} {
		t.Run(c.library+"/"+c.name, func(t *testing.T) {
			at, l := foreignDir(t), rubyLibraries[c.library]
			place(t, at, c.file, l.of(1, c.keys()...))
			t.Setenv(libraryOf, c.library)
			size := bytesOf(t, at)
			peak, text, reason := scraperPeak(t, newDir(t), at)
			t.Logf("%d KiB of files, %d KiB of text, peak %d KiB", size>>10, text>>10, peak>>10)
			assert.Less(t, peak, 100*size+64<<20)
			assert.Equal(t, c.reason, reason)
		})
	}
}

// product names many bounds and many label sets.
func product(l *rubyLibrary) (keys []string) {
	for i := range 1000 {
		keys = append(keys, l.bucket("l", "x", strconv.Itoa(i)))
	}
	for i := range 5000 {
		keys = append(keys, l.sum("l", strconv.Itoa(i)))
	}
	return keys
}
