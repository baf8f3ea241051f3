package aggregate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

// rubyLibrary is one of the two libraries for Ruby, with what a test needs to write its files.
type rubyLibrary struct {
	open      func(dir string) (*foreign.Dir, error)
	counter   string // names of files but for the number of the process
	histogram string
	suffix    string
	of        func(v float64, keys ...string) []byte // a file
	key       func(label, value string) string       // of c_total
	sum       func(label, value string) string       // of h
	bucket    func(label, value, le string) string
}

func (l *rubyLibrary) counterFile(n int) string   { return l.counter + strconv.Itoa(n) + l.suffix }
func (l *rubyLibrary) histogramFile(n int) string { return l.histogram + strconv.Itoa(n) + l.suffix }

func mmapKey(metric, name string, pairs ...string) string {
	var names, values []string
	for i := 0; i < len(pairs); i += 2 {
		names, values = append(names, strconv.Quote(pairs[i])), append(values, strconv.Quote(pairs[i+1]))
	}
	return fmt.Sprintf("[%q,%q,[%s],[%s]]", metric, name, strings.Join(names, ","), strings.Join(values, ","))
}

// mmapFileOf is a file of prometheus-client-mmap with an entry of the same number for each key.
func mmapFileOf(v float64, keys ...string) []byte {
	b := make([]byte, 8)
	for _, key := range keys {
		b = append(binary.NativeEndian.AppendUint32(b, uint32(len(key))), key...)
		b = append(b, strings.Repeat(" ", 8-(len(key)+4)%8)...)
		b = binary.NativeEndian.AppendUint64(b, math.Float64bits(v))
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

var rubyLibraries = map[string]*rubyLibrary{
	"prometheus-client-mmap": {
		open:    func(dir string) (*foreign.Dir, error) { return rubymmap.Open(dir, foreign.Options{}) },
		counter: "counter_", histogram: "histogram_", suffix: "-0.db",
		of:     mmapFileOf,
		key:    func(label, value string) string { return mmapKey("c_total", "c_total", label, value) },
		sum:    func(label, value string) string { return mmapKey("h", "h_sum", label, value) },
		bucket: func(label, value, le string) string { return mmapKey("h", "h_bucket", label, value, "le", le) },
	},
	"client_ruby": {
		open:    func(dir string) (*foreign.Dir, error) { return ruby.Open(dir, nil, foreign.Options{}) },
		counter: "metric_c_total___", histogram: "metric_h___", suffix: ".bin",
		of:     rubyFileOf,
		key:    func(label, value string) string { return label + "=" + value },
		sum:    func(label, value string) string { return label + "=" + value + "&le=sum" },
		bucket: func(label, value, le string) string { return label + "=" + value + "&le=" + url.QueryEscape(le) },
	},
}

// No file of theirs stops a scrape: the rest is exposed, and what is left out is counted once.
func TestRubyBadInput(t *testing.T) {
	mib := strings.Repeat("v", 1<<20)
	// What is wrong with the file whatever the library, made of a good file and of what its keys are.
	type hostile struct {
		name    string // of the file; "": that of a counter
		content []byte
		says    string // the exposition but for the good counter
		reason  string // "": nothing is wrong
	}
	common := func(l *rubyLibrary) map[string]hostile {
		good := l.of(1, l.key("l", "b"))
		used := func(n int) []byte {
			b := bytes.Clone(good)
			binary.NativeEndian.PutUint32(b, uint32(n))
			return b
		}
		length := func(n int) []byte {
			b := bytes.Clone(good)
			binary.NativeEndian.PutUint32(b[8:], uint32(n))
			return b
		}
		h := l.histogramFile(2)
		return map[string]hostile{
			"empty":                        {content: nil},
			"made and not begun":           {content: make([]byte, 4096)},
			"good":                         {content: good, says: "c_total{l=\"b\"} 1\n"},
			"shorter than its header":      {content: []byte{8, 0, 0}, reason: "corrupt"},
			"garbage":                      {content: []byte(strings.Repeat("garbage ", 100)), reason: "corrupt"},
			"more used than there is":      {content: used(1 << 20), reason: "corrupt"},
			"all of an int32 used":         {content: used(math.MaxInt32 &^ 7), reason: "corrupt"},
			"negative used":                {content: used(-8), reason: "corrupt"},
			"odd used":                     {content: used(11), reason: "corrupt"},
			"half an entry":                {content: used(len(good) - 8), reason: "corrupt"},
			"a key beyond the file":        {content: length(1 << 20), reason: "corrupt"},
			"a key beyond every file":      {content: length(math.MaxInt32), reason: "corrupt"},
			"a negative key":               {content: length(-4), reason: "corrupt"},
			"an empty key":                 {content: length(0), reason: "corrupt"},
			"a key that is not UTF-8":      {content: l.of(1, l.key("l", "\xff")), reason: "corrupt"},
			"a name that is not UTF-8":     {content: l.of(1, l.key("l\xff", "x")), reason: "corrupt"},
			"a value of 1 MiB":             {content: l.of(1, l.key("l", mib)), says: "c_total{l=\"" + mib + "\"} 1\n"},
			"a value of more":              {content: l.of(1, l.key("l", mib+"v")), reason: "corrupt"},
			"a name of 1 MiB":              {content: l.of(1, l.key(mib, "x")), reason: "corrupt"},
			"a key of more than any":       {content: l.of(1, l.key("l", strings.Repeat("v", 16<<20))), reason: "corrupt"},
			"a reserved label":             {content: l.of(1, l.key("__l", "x")), reason: "definition"},
			"a name that is none":          {content: l.of(1, l.key("", "x")), reason: "corrupt"},
			"a bound that is none":         {name: h, content: l.of(1, l.bucket("l", "x", "much")), reason: "corrupt"},
			"a bound that is no number":    {name: h, content: l.of(1, l.bucket("l", "x", "NaN")), reason: "corrupt"},
			"a bound that is out of range": {name: h, content: l.of(1, l.bucket("l", "x", "1e999")), reason: "corrupt"},
			"a process that is not UTF-8":  {name: l.counter + "\xff" + l.suffix, content: good, reason: "foreign"},
			"a name of no kind":            {name: "x" + l.counterFile(2), content: good, reason: "foreign"},
		}
	}
	own := map[string]map[string]hostile{
		"prometheus-client-mmap": {
			"a key that is no JSON":       {content: mmapFileOf(1, "no JSON"), reason: "corrupt"},
			"JSON that is no key":         {content: mmapFileOf(1, `{"a": 1}`), reason: "corrupt"},
			"a label without value":       {content: mmapFileOf(1, `["c","c",["l"],[]]`), reason: "corrupt"},
			"a key behind the key":        {content: mmapFileOf(1, `["c","c",[],[]]["c","c",[],[]]`), reason: "corrupt"},
			"nested a million times":      {content: mmapFileOf(1, strings.Repeat("[", 1<<20)), reason: "corrupt"},
			"a value nested that often":   {content: mmapFileOf(1, `["c","c",["l"],[`+strings.Repeat("[", 1<<20)), reason: "corrupt"},
			"a value with a raw NUL":      {content: mmapFileOf(1, "[\"c\",\"c\",[\"l\"],[\"\x00\"]]"), reason: "corrupt"},
			"half a surrogate":            {content: mmapFileOf(1, `["c_total","c_total",["l"],["\ud800"]]`), says: "c_total{l=\"\uFFFD\"} 1\n"},
			"a label that comes twice":    {content: mmapFileOf(1, `["c_total","c_total",["l","l"],["a","b"]]`), says: "c_total{l=\"b\"} 1\n"},
			"too many labels":             {content: mmapFileOf(1, mmapKey("c_total", "c_total", manyPairs(100_000)...)), reason: "corrupt"},
			"a metric's name of 1 MiB":    {content: mmapFileOf(1, mmapKey(mib, mib)), reason: "corrupt"},
			"a sample of no histogram":    {name: "histogram_2-0.db", content: mmapFileOf(1, mmapKey("h", "h_total")), reason: "corrupt"},
			"a bucket without bound":      {name: "histogram_2-0.db", content: mmapFileOf(1, mmapKey("h", "h_bucket")), reason: "corrupt"},
			"a mode that there is not":    {name: "gauge_avg_2-0.db", content: mmapFileOf(1, mmapKey("g", "g")), reason: "foreign"},
			"zeros behind the entries":    {content: zerosBehind(mmapFileOf(1, mmapKey("c", "c")), 4096), reason: "corrupt"},
			"a key that is not padded so": {content: bytes.ReplaceAll(mmapFileOf(1, mmapKey("c", "c")), []byte(" "), []byte("x")), reason: "corrupt"},
		},
		"client_ruby": {
			"an escape that is none":      {content: rubyFileOf(1, "l=%zz"), reason: "corrupt"},
			"half an escape":              {content: rubyFileOf(1, "l=%a"), reason: "corrupt"},
			"an escaped name not UTF-8":   {content: rubyFileOf(1, "%ff=x"), reason: "corrupt"},
			"an escaped value not UTF-8":  {content: rubyFileOf(1, "l=%ff"), says: "c_total{l=\"\uFFFD\"} 1\n"},
			"an escaped NUL":              {content: rubyFileOf(1, "l=%00"), says: "c_total{l=\"\x00\"} 1\n"},
			"a value that is a hole":      {content: rubyFileOf(1, "l="+strings.Repeat("\x00", 1<<16)), reason: "corrupt"},
			"a key that is a hole":        {content: rubyFileOf(1, strings.Repeat("\x00", 64)), reason: "corrupt"},
			"a label that comes twice":    {content: rubyFileOf(1, "l=b&l=a"), says: "c_total{l=\"b\"} 1\n"},
			"nothing but separators":      {content: rubyFileOf(1, strings.Repeat("&", 1<<20)), says: "c_total 1\n"},
			"too many labels":             {content: rubyFileOf(1, strings.Join(manyPairs(100_000), "&")), reason: "corrupt"},
			"a key that is not padded so": {content: mmapFileOf(1, "l=x"), reason: "corrupt"},
			"zeros behind the entries":    {content: zerosBehind(rubyFileOf(1, "l=x"), 4096), reason: "corrupt"},
			"a process that is 0":         {name: "metric_c_total___0.bin", content: rubyFileOf(1, "l=x"), reason: "foreign"},
			"a process of more digits":    {name: "metric_c_total___99999999999999999999.bin", content: rubyFileOf(1, "l=x"), reason: "foreign"},
		},
	}
	for library, l := range rubyLibraries {
		cases := common(l)
		for name, c := range own[library] {
			cases[name] = c
		}
		for name, c := range cases {
			t.Run(library+"/"+name, func(t *testing.T) {
				dir := foreignDir(t)
				place(t, dir, l.counterFile(1), l.of(5, l.key("l", "a")))
				d, err := l.open(dir)
				require.NoError(t, err)
				log := &logLines{}
				s := openForeign(t, Options{Logger: log.logger()}, d)
				const first = "c_total{l=\"a\"} 5\n"
				require.Equal(t, first, text(t, s))
				if c.name == "" {
					c.name = l.counterFile(2)
				}
				place(t, dir, c.name, c.content)
				want := map[string]int{}
				if c.reason != "" {
					want[c.reason] = 1
				}
				for range 2 {
					got := text(t, s)
					require.Len(t, got, len(first)+len(c.says), "%.300s", got)
					assert.True(t, strings.Contains(got, first) && strings.Contains(got, c.says), "%.300s", got)
					assert.Equal(t, want, errorCounts(t, s))
				}
				assert.Len(t, log.about("left_out"), len(want))
				require.NoError(t, os.Remove(filepath.Join(dir, c.name)))
				place(t, dir, l.counterFile(2), l.of(1, l.key("l", "a")))
				assert.Equal(t, "c_total{l=\"a\"} 6\n", text(t, s), "one that takes its place is read")
			})
		}
	}
}

func manyPairs(n int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, "l"+strconv.Itoa(i))
	}
	return pairs
}

// zerosBehind is a file that says that zeros behind its entries are used.
func zerosBehind(b []byte, n int) []byte {
	b = append(b, make([]byte, n)...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// A series with a value that no library writes is left out, alone.
func TestRubyBadValues(t *testing.T) {
	for library, l := range rubyLibraries {
		t.Run(library, func(t *testing.T) {
			dir := foreignDir(t)
			for i, v := range []float64{5, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
				place(t, dir, l.counterFile(i+1), l.of(v, l.key("l", strconv.Itoa(i))))
				place(t, dir, l.histogramFile(i+1), l.of(v, l.bucket("l", strconv.Itoa(i), "1"), l.bucket("l", strconv.Itoa(i), "+Inf")))
			}
			place(t, dir, l.histogramFile(6), l.of(1.5, l.bucket("l", "5", "1")))
			d, err := l.open(dir)
			require.NoError(t, err)
			s := openForeign(t, Options{}, d)
			assert.Equal(t, "c_total{l=\"0\"} 5\n", text(t, s, "c_total"))
			for line := range strings.Lines(text(t, s, "h")) {
				assert.Contains(t, line, "{l=\"0\"")
			}
			assert.Equal(t, map[string]int{"value": 9}, errorCounts(t, s))
		})
	}
}

// What is no plain file of its own is left out. A sparse file takes neither memory nor time.
func TestRubyOddFiles(t *testing.T) {
	for library, l := range rubyLibraries {
		t.Run(library, func(t *testing.T) {
			dir := foreignDir(t)
			at := func(n int) string { return filepath.Join(dir, l.counterFile(n)) }
			place(t, dir, l.counterFile(1), l.of(5, l.key("l", "a")))
			require.NoError(t, syscall.Mkfifo(at(2), 0o600))
			require.NoError(t, os.Symlink(l.counterFile(1), at(3)))
			require.NoError(t, os.Mkdir(at(4), 0o700))
			place(t, dir, "."+l.counterFile(5), []byte("garbage"))
			sparse := l.of(1, l.key("l", "b"))
			binary.NativeEndian.PutUint32(sparse, math.MaxInt32&^7)
			for i, size := range []int64{math.MaxInt32, 1 << 40} {
				place(t, dir, l.counterFile(6+i), sparse)
				require.NoError(t, os.Truncate(at(6+i), size))
			}
			d, err := l.open(dir)
			require.NoError(t, err)
			s := openForeign(t, Options{}, d)
			assert.Equal(t, "c_total{l=\"a\"} 5\n", text(t, s))
			assert.Equal(t, map[string]int{"foreign": 3, "corrupt": 2}, errorCounts(t, s))
			kept := filepath.Join(t.TempDir(), "kept")
			if err := os.Link(at(1), kept); err == nil {
				assert.Equal(t, "c_total{l=\"a\"} 5\n", text(t, s), "a link elsewhere")
			}
			require.NoError(t, os.Link(at(1), at(8)))
			assert.Empty(t, text(t, s), "which of two names is right nobody knows")
		})
	}
}

// A file that shrinks while it is mapped, or is replaced, is what it is then.
func TestRubyTruncatedAndReplaced(t *testing.T) {
	for library, l := range rubyLibraries {
		t.Run(library, func(t *testing.T) {
			dir := foreignDir(t)
			path := filepath.Join(dir, l.counterFile(1))
			place(t, dir, l.counterFile(1), l.of(5, l.key("l", "a")))
			place(t, dir, l.counterFile(2), l.of(1, l.key("l", "a")))
			d, err := l.open(dir)
			require.NoError(t, err)
			s := openForeign(t, Options{}, d)
			assert.Equal(t, "c_total{l=\"a\"} 6\n", text(t, s))
			require.NoError(t, os.Truncate(path, 16))
			assert.Equal(t, "c_total{l=\"a\"} 1\n", text(t, s))
			assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
			require.NoError(t, os.Truncate(path, 0))
			assert.Equal(t, "c_total{l=\"a\"} 1\n", text(t, s), "it begins anew")
			require.NoError(t, os.Remove(path))
			place(t, dir, l.counterFile(1), l.of(7, l.key("l", "a")))
			assert.Equal(t, "c_total{l=\"a\"} 8\n", text(t, s))
			assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
		})
	}
}
