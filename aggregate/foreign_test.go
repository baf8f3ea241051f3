package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

func openForeign(t testing.TB, o Options, dirs ...*foreign.Dir) *Store {
	t.Helper()
	o.Foreign = dirs
	return openStore(t, "", o)
}

// A store of ours and the directories of three libraries are one scrape: what has one name is added up.
func TestForeignBesideOurOwn(t *testing.T) {
	store, py, py2, mmap, rb := newDir(t), foreignDir(t), foreignDir(t), foreignDir(t), foreignDir(t)
	startLocal(t, store, 0).do(ready, action{Do: "add", Family: counterFamily("c_total", "l"), Values: []string{"x"}, V: 1})
	startDict(t, py, "counter_1.db").set(pyKey("c", "c_total", "l", "x"), 2)
	startDict(t, py2, "counter_1.db").set(pyKey("c", "c_total", "l", "x"), 4.5)
	startDict(t, mmap, "counter_1-0.db").set(`["c_total","c_total",["l"],["x"]]`, 8)
	place(t, rb, "metric_c_total___1.bin", rubyFile("l=x", 16))

	m, err := rubymmap.Open(mmap, foreign.Options{})
	require.NoError(t, err)
	r, err := ruby.Open(rb, nil, foreign.Options{})
	require.NoError(t, err)
	s := openStore(t, store, Options{Foreign: []*foreign.Dir{pythonDir(t, py, foreign.Options{}),
		pythonDir(t, py2, foreign.Options{}), m, r}})
	assert.Equal(t, "c_total{l=\"x\"} 31.5\n", text(t, s))
	assert.Empty(t, errorCounts(t, s))

	_, err = Open("", Options{Foreign: []*foreign.Dir{m, m}})
	require.ErrorContains(t, err, "given twice")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(py, link))
	_, err = Open("", Options{Foreign: []*foreign.Dir{pythonDir(t, py, foreign.Options{}), pythonDir(t, link, foreign.Options{})}})
	require.ErrorContains(t, err, "given twice")
	_, err = Open("", Options{})
	require.ErrorContains(t, err, "path is empty")
}

// rubyFile is a file of client_ruby with one entry of one number.
func rubyFile(key string, v float64) []byte { return rubyFileOf(v, key) }

// rubyFileOf is one with an entry of the same number for each key.
func rubyFileOf(v float64, keys ...string) []byte {
	b := make([]byte, 8)
	for _, key := range keys {
		padded := key + strings.Repeat(" ", 8-(len(key)+4)%8)
		b = append(binary.NativeEndian.AppendUint32(b, uint32(len(padded))), padded...)
		b = binary.NativeEndian.AppendUint64(b, math.Float64bits(v))
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// A file of client_python says nowhere how many numbers an entry has. One directory may have both.
func TestForeignLayoutsMix(t *testing.T) {
	dir := foreignDir(t)
	old, err := openDict(dir, "gauge_mostrecent_1.db", 1)
	require.NoError(t, err)
	defer old.die()
	next, err := openDict(dir, "gauge_mostrecent_2.db", 2)
	require.NoError(t, err)
	defer next.die()
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Empty(t, text(t, s), "empty files say nothing")
	old.set(pyKey("g", "g"), 1)
	assert.Equal(t, "g 1\n", text(t, s), "without a time it is as old as its file")
	next.set(pyKey("g", "g"), 0, 0)
	next.set(pyKey("h", "h"), 0, 0)
	assert.Equal(t, "g 1\n", text(t, s), "what was never set is not there")
	next.set(pyKey("g", "g"), 2, 4e9)
	assert.Equal(t, "g 2\n", text(t, s))
	next.set(pyKey("h", "h"), 0, 4e9)
	assert.Equal(t, "g 2\nh 0\n", text(t, s))
	assert.Empty(t, errorCounts(t, s))
}

// A bound that one process knows and another does not is one of the family's, whichever comes first.
func TestForeignBounds(t *testing.T) {
	dir := foreignDir(t)
	bucket := func(le string) string { return pyKey("h", "h_bucket", "le", le) }
	a, b := startDict(t, dir, "histogram_1.db"), startDict(t, dir, "histogram_2.db")
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	a.set(pyKey("h", "h_sum"), 2.5)
	for _, le := range []string{"1.0", "2.0", "+Inf"} {
		a.set(bucket(le), 1)
	}
	assert.Equal(t, "h_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n", text(t, s))
	b.set(bucket("1.0"), 0)
	assert.Equal(t, "h_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n", text(t, s),
		"a process that is about to make a histogram takes no bucket away")
	b.set(bucket("1.5"), 4)
	b.set(bucket("+Inf"), 1)
	assert.Equal(t, "h_bucket{le=\"1\"} 1\nh_bucket{le=\"1.5\"} 5\nh_bucket{le=\"2\"} 6\nh_bucket{le=\"+Inf\"} 8\nh_sum 2.5\n"+
		"h_count 8\n", text(t, s))
	b.die()
	require.NoError(t, os.Remove(filepath.Join(dir, "histogram_2.db")))
	assert.Equal(t, "h_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n", text(t, s))
}

// What nobody has defined is exposed as it is, and said once; a definition says what it is.
func TestForeignDefinitions(t *testing.T) {
	dir := foreignDir(t)
	for _, pid := range []int{1, 2} {
		place(t, dir, fmt.Sprintf("metric_depth___%d.bin", pid), rubyFile("", float64(pid)))
		place(t, dir, fmt.Sprintf("metric_own___%d.bin", pid), rubyFile(fmt.Sprintf("pid=%d", pid), float64(pid)))
	}
	place(t, dir, "metric_h___1.bin", rubyFile("le=2.5", 3))
	place(t, dir, "metric_s___1.bin", rubyFile("quantile=count", 3))
	log := &logLines{}
	d, err := ruby.Open(dir, nil, foreign.Options{Logger: log.logger()})
	require.NoError(t, err)
	s := openForeign(t, Options{}, d)
	for range 2 {
		assert.Equal(t, "depth{pid=\"1\"} 1\ndepth{pid=\"2\"} 2\nh_bucket{le=\"2.5\"} 3\nh_bucket{le=\"+Inf\"} 3\nh_sum 0\n"+
			"h_count 3\nown{pid=\"1\"} 1\nown{pid=\"2\"} 2\ns_sum 0\ns_count 3\n", text(t, s))
	}
	assert.Len(t, log.about("nobody has defined"), 1)
	families := gatherAll(t, s)
	assert.Equal(t, "UNTYPED", families["depth"].GetType().String())
	assert.Equal(t, "GAUGE", families["own"].GetType().String())

	d, err = ruby.Open(dir, map[string]ruby.Definition{
		"depth": {Type: "gauge", Help: "Jobs that wait.", Aggregation: "max"},
		"h":     {Type: "histogram", Buckets: []float64{1, 2.5}},
	}, foreign.Options{})
	require.NoError(t, err)
	s = openForeign(t, Options{}, d)
	assert.Equal(t, "depth 2\n", text(t, s, "depth"))
	assert.Equal(t, "h_bucket{le=\"1\"} 0\nh_bucket{le=\"2.5\"} 3\nh_bucket{le=\"+Inf\"} 3\nh_sum 0\nh_count 3\n", text(t, s, "h"))
	assert.Equal(t, "Jobs that wait.", gatherAll(t, s)["depth"].GetHelp())

	for name, wrong := range map[string]ruby.Definition{
		"no type":                           {Type: "info"},
		"no aggregation":                    {Type: "gauge", Aggregation: "median"},
		"is for gauges":                     {Type: "counter", Aggregation: "most_recent"},
		"buckets of a":                      {Type: "gauge", Buckets: []float64{1}},
		"the bound 1 does not come after 2": {Type: "histogram", Buckets: []float64{2, 1}},
	} {
		_, err = ruby.Open(dir, map[string]ruby.Definition{"m": wrong}, foreign.Options{})
		require.ErrorContains(t, err, name)
	}
}

// No file stops a scrape: the rest is exposed, and what is left out is counted and said once.
func TestForeignBadInput(t *testing.T) {
	good := func(t *testing.T, dir, name string) []byte {
		startDict(t, dir, name).set(pyKey("c", "c_total"), 5)
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return b
	}
	entries := func(doubles int, keys ...string) []byte {
		d := dict{memory: make([]byte, 1<<12), doubles: doubles, at: map[string]int{}}
		d.setUsed(8)
		for _, key := range keys {
			d.set(key, 1)
		}
		return d.memory
	}
	with := func(b []byte, used int) []byte {
		d := dict{memory: append([]byte(nil), b...)}
		d.setUsed(used)
		return d.memory
	}
	key := pyKey("c", "c_total")
	tests := map[string]struct {
		name    string
		content []byte
		reason  string // "": nothing is wrong
	}{
		"empty":                    {"counter_2.db", nil, ""},
		"made and not begun":       {"counter_2.db", make([]byte, 4096), ""},
		"without entries":          {"counter_2.db", entries(1), ""},
		"shorter than its header":  {"counter_2.db", []byte{8, 0, 0}, "corrupt"},
		"garbage":                  {"counter_2.db", []byte(strings.Repeat("garbage ", 100)), "corrupt"},
		"more used than there is":  {"counter_2.db", with(entries(1, key), 1<<20), "corrupt"},
		"negative used":            {"counter_2.db", with(entries(1, key), -8), "corrupt"},
		"odd used":                 {"counter_2.db", with(entries(1, key), 11), "corrupt"},
		"half an entry":            {"counter_2.db", with(entries(1, key), 40), "corrupt"},
		"zeros behind the entries": {"counter_2.db", with(entries(1, key), 400), "corrupt"},
		"a key that is no JSON":    {"counter_2.db", entries(1, "no JSON"), "corrupt"},
		"JSON that is no key":      {"counter_2.db", entries(2, `{"a": 1}`), "corrupt"},
		"a label without value":    {"counter_2.db", entries(2, `["c", "c_total", {"a": }, "h"]`), "corrupt"},
		"a key behind the key":     {"counter_2.db", entries(2, key+key), "corrupt"},
		"a key that is not UTF-8":  {"counter_2.db", entries(1, "[\"c\", \"c\xff\", {}, \"\"]"), "corrupt"},
		"a sample of no histogram": {"histogram_2.db", entries(1, pyKey("h", "h_total")), "corrupt"},
		"a bucket without bound":   {"histogram_2.db", entries(1, pyKey("h", "h_bucket", "le", "much")), "corrupt"},
		"a bound that is no":       {"histogram_2.db", entries(1, pyKey("h", "h_bucket", "le", "NaN")), "corrupt"},
		"a name of no kind":        {"histogramm_2.db", entries(1, key), "foreign"},
		"a mode that there is not": {"gauge_avg_2.db", entries(1, key), "foreign"},
		"a process without UTF-8":  {"gauge_all_\xff.db", entries(1, pyKey("g", "g")), "foreign"},
		"a reserved label":         {"counter_2.db", entries(1, pyKey("c", "c_total", "__l", "x")), "definition"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := foreignDir(t)
			good(t, dir, "counter_1.db")
			log := &logLines{}
			s := openForeign(t, Options{Logger: log.logger()}, pythonDir(t, dir, foreign.Options{}))
			assert.Equal(t, "c_total 5\n", text(t, s))
			place(t, dir, test.name, test.content)
			for range 2 {
				assert.True(t, strings.HasPrefix(text(t, s), "c_total "))
				want := map[string]int{}
				if test.reason != "" {
					assert.Equal(t, "c_total 5\n", text(t, s))
					want[test.reason] = 1
				}
				assert.Equal(t, want, errorCounts(t, s))
			}
			assert.Len(t, log.about("left_out"), len(errorCounts(t, s)))
			// One that takes its place is read.
			require.NoError(t, os.Remove(filepath.Join(dir, test.name)))
			place(t, dir, "counter_2.db", entries(2, key))
			assert.Equal(t, "c_total 6\n", text(t, s))
		})
	}
}

// A series with a value that no library writes is left out.
func TestForeignBadValues(t *testing.T) {
	dir := foreignDir(t)
	d, h := startDict(t, dir, "counter_1.db"), startDict(t, dir, "histogram_1.db")
	d.set(pyKey("c", "c_total", "l", "a"), -1)
	d.set(pyKey("c", "c_total", "l", "b"), 2)
	h.set(pyKey("h", "h_bucket", "le", "1"), 1.5)
	h.set(pyKey("h", "h_bucket", "le", "+Inf"), 2)
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Equal(t, "c_total{l=\"b\"} 2\n", text(t, s))
	assert.Equal(t, map[string]int{"value": 2}, errorCounts(t, s))
}

// What is no plain file of its own is left out.
func TestForeignOddFiles(t *testing.T) {
	dir := foreignDir(t)
	startDict(t, dir, "counter_1.db").set(pyKey("c", "c_total"), 5)
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "counter_2.db"), 0o600))
	require.NoError(t, os.Symlink("counter_1.db", filepath.Join(dir, "counter_3.db")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "counter_4.db"), 0o700))
	place(t, dir, "counter_5.dbx", nil)
	place(t, dir, ".counter_5.db", []byte("garbage"))
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Equal(t, "c_total 5\n", text(t, s))
	assert.Equal(t, map[string]int{"foreign": 3}, errorCounts(t, s))
	require.NoError(t, os.Link(filepath.Join(dir, "counter_1.db"), filepath.Join(dir, "counter_6.db")))
	assert.Empty(t, text(t, s), "which of two names is right nobody knows")
}

// A backup by links, such as "cp -al" or "rsync --link-dest", is no reason to leave a file out, neither for a scraper that
// runs nor for one that starts.
func TestHardLinkHidesNoLiveFile(t *testing.T) {
	dir, other := newDir(t), foreignDir(t)
	backup := filepath.Join(filepath.Dir(dir), "backup")
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("own_total"), V: 1}, ready)
	startDict(t, other, "counter_1.db").set(pyKey("c", "c_total"), 5)
	open := func() *Store {
		return openStore(t, dir, Options{Foreign: []*foreign.Dir{pythonDir(t, other, foreign.Options{})}})
	}
	runs := open()
	require.Equal(t, "c_total 5\nown_total 1\n", text(t, runs))
	for i, from := range []string{dir, other} {
		require.NoError(t, exec.Command("cp", "-al", from, backup+strconv.Itoa(i)).Run())
	}
	t.Cleanup(func() { os.RemoveAll(backup + "0"); os.RemoveAll(backup + "1") })
	for i := range 2000 {
		// The file grows, and so is mapped anew.
		p.do(action{Do: "add", Family: counterFamily("own_total"), V: 1},
			action{Do: "make", Family: gaugeFamily("g", shmstore.LiveSum, "l"), Values: []string{strconv.Itoa(i)}})
	}
	for name, s := range map[string]*Store{"runs": runs, "starts": open()} {
		assert.Equal(t, "c_total 5\n", text(t, s, "c_total"), name)
		assert.Equal(t, "own_total 2001\n", text(t, s, "own_total"), name)
		assert.Empty(t, errorCounts(t, s), name)
	}
}

// A dead process's file that has a link elsewhere is folded once, and its name goes.
func TestHardLinkedFileOfTheDeadIsFolded(t *testing.T) {
	dir := newDir(t)
	p := startChild(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total"), V: 7}, ready)
	kept := filepath.Join(filepath.Dir(dir), "kept")
	require.NoError(t, os.Link(filepath.Join(dir, p.name), kept))
	p.killSeen(dir)
	s := openStore(t, dir, Options{})
	folded, err := s.Fold(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, folded)
	assert.NoFileExists(t, filepath.Join(dir, p.name))
	assert.FileExists(t, kept)
	assert.Equal(t, "c_total 7\n", text(t, s))
}

// Anybody's word counts only where not everybody can give it.
func TestForeignOtherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := foreignDir(t)
	startDict(t, dir, "counter_1.db").set(pyKey("c", "c_total"), 5)
	startDict(t, dir, "counter_2.db").set(pyKey("c", "c_total"), 2)
	require.NoError(t, os.Chown(filepath.Join(dir, "counter_2.db"), 12345, 12345))
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Equal(t, "c_total 7\n", text(t, s))
	require.NoError(t, os.Chmod(dir, 0o777))
	assert.Equal(t, "c_total 5\n", text(t, s))
	assert.Equal(t, map[string]int{"foreign": 1}, errorCounts(t, s))
	require.NoError(t, os.Chown(dir, 12345, 12345))
	assert.Equal(t, "c_total 7\n", text(t, s), "the directory's owner may, and so may we")
}

// A file that shrinks while it is read, or is replaced, is what it is then.
func TestForeignTruncatedAndReplaced(t *testing.T) {
	dir := foreignDir(t)
	path := filepath.Join(dir, "counter_1.db")
	d := startDict(t, dir, "counter_1.db")
	d.set(pyKey("c", "c_total"), 5)
	startDict(t, dir, "counter_2.db").set(pyKey("c", "c_total"), 1)
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Equal(t, "c_total 6\n", text(t, s))
	require.NoError(t, os.Truncate(path, 16))
	assert.Equal(t, "c_total 1\n", text(t, s))
	assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
	require.NoError(t, os.Truncate(path, 0))
	assert.Equal(t, "c_total 1\n", text(t, s), "it begins anew")
	d.die()
	require.NoError(t, os.Remove(path))
	startDict(t, dir, "counter_1.db").set(pyKey("c", "c_total"), 7)
	assert.Equal(t, "c_total 8\n", text(t, s))
	assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
}

// A directory comes and goes with its server.
func TestForeignDirectoryVanishes(t *testing.T) {
	dir := filepath.Join(foreignDir(t), "metrics")
	store := newDir(t)
	startLocal(t, store, 0).do(action{Do: "add", Family: counterFamily("own_total"), V: 1})
	log := &logLines{}
	s := openStore(t, store, Options{Logger: log.logger(), Foreign: []*foreign.Dir{pythonDir(t, dir, foreign.Options{})}})
	for i := range 3 {
		for range 2 {
			assert.Equal(t, "own_total 1\n", text(t, s))
			assert.Equal(t, map[string]int{"io": i + 1}, errorCounts(t, s))
		}
		require.NoError(t, os.Mkdir(dir, 0o755))
		d := startDict(t, dir, "counter_1.db")
		d.set(pyKey("c", "c_total"), 5)
		assert.Equal(t, "c_total 5\nown_total 1\n", text(t, s))
		d.die()
		require.NoError(t, os.RemoveAll(dir))
	}
	assert.Len(t, log.about("no such directory"), 3)

	_, err := python.Open("", foreign.Options{})
	require.ErrorContains(t, err, "path is empty")
	file := filepath.Join(store, "lock")
	_, err = python.Open(file, foreign.Options{})
	require.ErrorContains(t, err, "is a file")
}

// A directory that cannot be listed is one whose files count on.
func TestForeignUnlisted(t *testing.T) {
	dir := foreignDir(t)
	d := startDict(t, dir, "counter_1.db")
	d.set(pyKey("c", "c_total"), 5)
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	require.Equal(t, "c_total 5\n", text(t, s))
	d.set(pyKey("c", "c_total"), 6)
	withoutDescriptors(t, func() { assert.Equal(t, "c_total 6\n", text(t, s)) })
	assert.Equal(t, map[string]int{"io": 1}, errorCounts(t, s))
	d.set(pyKey("d", "d_total"), 1)
	assert.Equal(t, "c_total 6\nd_total 1\n", text(t, s))
}

// A file that names many bounds and many label sets asks for their product.
func TestForeignSmallFileThatExpandsIsLeftOut(t *testing.T) {
	dir := foreignDir(t)
	startDict(t, dir, "counter_1.db").set(pyKey("c", "c_total"), 5)
	h := startDict(t, dir, "histogram_2.db")
	for i := range 1000 {
		h.set(pyKey("h", "h_bucket", "l", "x", "le", strconv.Itoa(i)), 1)
	}
	for i := range 1000 {
		h.set(pyKey("h", "h_sum", "l", strconv.Itoa(i)), 1)
	}
	s := openForeign(t, Options{}, pythonDir(t, dir, foreign.Options{}))
	assert.Equal(t, "c_total 5\n", text(t, s))
	assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
}
