package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "missing"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "missing")

	_, err = Open(dir, Options{})
	assert.ErrorContains(t, err, "no store")

	store := newDir(t)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(store, link))
	_, err = Open(link, Options{})
	require.ErrorIs(t, err, shmstore.ErrUnsafeDir)

	require.NoError(t, os.Chmod(store, 0o770))
	_, err = Open(store, Options{})
	require.ErrorIs(t, err, shmstore.ErrUnsafeDir)
	require.NoError(t, os.Chmod(store, 0o700))

	for _, label := range []string{"__name__", "\xff"} {
		_, err = Open(store, Options{Label: label})
		assert.ErrorContains(t, err, "no label for the slot")
	}
}

func TestClosedStore(t *testing.T) {
	dir := newDir(t)
	startLocal(t, dir, 0).do(action{Do: "add", Family: counterFamily("c_total"), V: 1})
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	assert.Equal(t, dir, s.Dir())
	text(t, s)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Gather()
	require.ErrorIs(t, err, errClosed)
	require.ErrorIs(t, s.WriteText(nil), errClosed)
}

var errorLine = regexp.MustCompile(`reason="(\w+)"} (\d+)`)

// errorCounts returns the reasons that were counted.
func errorCounts(t testing.TB, s *Store) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, m := range errorLine.FindAllStringSubmatch(text(t, s, "onescrape_store_errors_total"), -1) {
		if n, _ := strconv.Atoi(m[2]); n > 0 {
			counts[m[1]] = n
		}
	}
	return counts
}

// place puts content into a store under a name that a process could have.
func place(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
}

func TestBrokenFilesAreLeftOut(t *testing.T) {
	dir := newDir(t)
	good := startLocal(t, dir, 0)
	def := counterFamily("c_total")
	good.do(action{Do: "add", Family: def, V: 5})
	whole, err := os.ReadFile(filepath.Join(dir, good.w.Name()))
	require.NoError(t, err)

	place(t, dir, fileName(1), nil)
	place(t, dir, fileName(2), []byte("garbage"))
	place(t, dir, fileName(3), whole[:100])
	place(t, dir, fileName(4), whole) // a copy: its name is not that of its header
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, fileName(5)), 0o600))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, fileName(6))))
	require.NoError(t, os.Mkdir(filepath.Join(dir, fileName(7)), 0o700))
	other := append([]byte(nil), whole...)
	binary.NativeEndian.PutUint32(other[8:], 77)
	place(t, dir, fileName(8), other)

	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger()})
	want := map[string]int{"corrupt": 3, "foreign": 4, "version": 1}
	for range 3 {
		assert.Equal(t, "c_total 5\n", text(t, s))
		assert.Equal(t, want, errorCounts(t, s), "once, not at every scrape")
	}
	assert.Len(t, log.about("cannot be read"), 8)
	assert.Equal(t, "onescrape_store_files{state=\"dead\"} 0\nonescrape_store_files{state=\"live\"} 1\n",
		text(t, s, "onescrape_store_files"))

	// One that is removed and comes again is another one.
	require.NoError(t, os.Remove(filepath.Join(dir, fileName(2))))
	assert.Equal(t, want, errorCounts(t, s))
	place(t, dir, fileName(2), []byte("garbage"))
	want["corrupt"]++
	assert.Equal(t, want, errorCounts(t, s))
}

// Junk is opened once, remembered by name and inode, and said in one line.
func TestJunkDoesNotCostEveryScrape(t *testing.T) {
	long(t)
	const junk = 5_000
	dir, other := newDir(t), foreignDir(t)
	good := startLocal(t, dir, 0)
	good.do(action{Do: "add", Family: counterFamily("c_total"), V: 5})
	startDict(t, other, "counter_1.db").set(pyKey("d", "d_total"), 5)
	for i := range junk {
		place(t, dir, fmt.Sprintf("%d-%016x.shm", i+1, i), []byte("junk"))
		place(t, other, fmt.Sprintf("counter_%d.db", i+2), []byte("junk"))
	}
	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger(), Foreign: []*foreign.Dir{pythonDir(t, other, foreign.Options{})}})
	want := map[string]int{"corrupt": 2 * junk}
	assert.Equal(t, "c_total 5\nd_total 5\n", text(t, s))
	assert.Equal(t, want, errorCounts(t, s))
	lines := log.about("cannot be read")
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0], fmt.Sprintf("files=%d first=\"%s ", 2*junk, filepath.Join(other, "counter_10.db")))
	assert.Less(t, len(lines[0]), 2000)

	allocs := testing.AllocsPerRun(3, func() { text(t, s) })
	assert.Less(t, allocs, 3*float64(junk), "most are not opened, and of most nothing is made anew")
	assert.Equal(t, want, errorCounts(t, s))

	// One that is replaced is another one, however many there are. One that is mended in place is found in time.
	whole, err := os.ReadFile(filepath.Join(other, "counter_1.db"))
	require.NoError(t, err)
	path := filepath.Join(other, "counter_777.db")
	place(t, other, "whole", whole)
	require.NoError(t, os.Rename(filepath.Join(other, "whole"), path))
	assert.Equal(t, "c_total 5\nd_total 10\n", text(t, s))
	place(t, other, "counter_778.db", whole)
	for i := 0; text(t, s) != "c_total 5\nd_total 15\n"; i++ {
		require.Less(t, i, 4*junk/64)
	}
	assert.Equal(t, want, errorCounts(t, s))
	assert.Len(t, log.about("cannot be read"), 1)
}

func TestFileThatBreaksWhileItIsRead(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	def := counterFamily("c_total", "l")
	good, bad := startLocal(t, dir, 0), startChild(t, dir, 1)
	good.do(action{Do: "add", Family: def, Values: []string{"x"}, V: 5})
	bad.do(action{Do: "add", Family: def, Values: []string{"x"}, V: 3}, action{Do: "add", Family: def,
		Values: []string{"y"}, V: 1},
		action{Do: "add", Family: counterFamily("only_total"), V: 1}, ready)
	bad.killSeen(dir)
	assert.Equal(t, "c_total{l=\"x\"} 8\nc_total{l=\"y\"} 1\nonly_total 1\n", text(t, s))
	path := filepath.Join(dir, bad.name)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.Truncate(path, 4096))
	for range 3 {
		assert.Equal(t, "c_total{l=\"x\"} 5\n", text(t, s))
		assert.Equal(t, map[string]int{"corrupt": 1}, errorCounts(t, s))
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(whole, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.Equal(t, "c_total{l=\"x\"} 8\nc_total{l=\"y\"} 1\nonly_total 1\n", text(t, s), "it is whole again")
}

// A scraper that runs out of descriptors goes on with the files that it has open.
func TestStoreThatCannotBeListed(t *testing.T) {
	dir := newDir(t)
	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger()})
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total"), V: 5})
	assert.Equal(t, "c_total 5\n", text(t, s))
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	p.do(action{Do: "add", Family: counterFamily("c_total"), V: 1})
	first, second := text(t, s), text(t, s)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	assert.Equal(t, []string{"c_total 6\n", "c_total 6\n"}, []string{first, second})
	assert.Equal(t, map[string]int{"io": 1}, errorCounts(t, s))
	assert.Len(t, log.about("cannot be listed"), 1)
}

// A series with one cell that cannot be counts not at all: neither in part, nor as the sum of others' counts.
func TestCellsThatCannotBe(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	good, bad := startLocal(t, dir, 0), startLocal(t, dir, 1)
	word := func(def shmstore.Family, i int, v uint64) action {
		return action{Do: "word", Family: def, Word: i, V: math.Float64frombits(v)}
	}
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		def := counterFamily("c" + strconv.Itoa(i))
		good.do(action{Do: "add", Family: def, V: 1.5})
		bad.do(action{Do: "add", Family: def, V: 2}, action{Do: "word", Family: def, Word: shmstore.CounterFloat, V: v})
	}
	integer, histogram, summary := counterFamily("i"), histogramFamily("h", []float64{1}), summaryFamily("s")
	good.do(action{Do: "add", Family: integer, V: 1}, action{Do: "observe", Family: histogram, V: 0},
		action{Do: "observe", Family: summary, V: 1})
	bad.do(action{Do: "add", Family: integer, V: .5}, word(integer, shmstore.CounterInteger, 1<<63),
		action{Do: "observe", Family: histogram, V: 7}, word(histogram, shmstore.HistogramBuckets, 1<<63),
		action{Do: "observe", Family: summary, V: 1}, word(summary, shmstore.SummaryCount, math.MaxUint64))
	for range 3 {
		assert.Equal(t,
			"c0 1.5\nc1 1.5\nc2 1.5\nc3 1.5\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 0\nh_count 1\ni 1\n"+
				"s_sum 1\ns_count 1\n", text(t, s))
		assert.Equal(t, map[string]int{"value": 1}, errorCounts(t, s))
	}
	// Sums of buckets that can just be stop at the largest number.
	for _, p := range []*local{good, bad, startLocal(t, dir, 2)} {
		p.do(word(histogram, shmstore.HistogramBuckets, 1<<63-1), word(histogram, shmstore.HistogramBuckets+1, 1<<63-1))
	}
	h := gatherAll(t, s)["h"].Metric[0].Histogram
	assert.Equal(t, uint64(math.MaxUint64), h.GetSampleCount())
	assert.Equal(t, uint64(math.MaxUint64), h.Bucket[0].GetCumulativeCount())
}

// What is left out is absent: a 0 would be a counter that was reset. So it is for scrapers of any kind, alive, dead and
// folded.
func TestWhatIsRefusedIsAbsent(t *testing.T) {
	dir := newDir(t)
	bad := startChild(t, dir, 0)
	word := func(def shmstore.Family, values []string, i int, v float64) action {
		return action{Do: "word", Family: def, Values: values, Word: i, V: v}
	}
	counter := counterFamily("c_total", "l")
	for i, v := range []float64{-1, math.Inf(1), math.NaN()} {
		bad.do(word(counter, []string{strconv.Itoa(i)}, shmstore.CounterFloat, v))
	}
	histogram, summary := histogramFamily("h", []float64{1}), summaryFamily("s")
	native := nativeFamily("n", 3, 0)
	huge := math.Float64frombits(1<<63 + 1) // not a zero, which gob would not send
	bad.do(word(histogram, nil, shmstore.HistogramSum, 1e308), word(histogram, nil, shmstore.HistogramBuckets, huge),
		word(summary, nil, shmstore.SummarySum, 1e308), word(summary, nil, shmstore.SummaryCount, huge),
		word(native, nil, shmstore.HistogramSum, 1e308), word(native, nil, native.NativeCells()-1, huge),
		action{Do: "add", Family: counter, Values: []string{"good"}, V: 1}, ready)
	s := openStore(t, dir, Options{})
	want := "c_total{l=\"good\"} 1\n"
	check := func(when string) {
		t.Helper()
		for _, s := range []*Store{s, openStore(t, dir, Options{})} {
			assert.Equal(t, want, text(t, s), when)
			all := gatherAll(t, s)
			require.Len(t, all["c_total"].Metric, 1, when)
			assert.Nil(t, all["h"], when)
			assert.Nil(t, all["n"], when)
			assert.Nil(t, all["s"], when)
		}
	}
	check("alive")
	assert.Equal(t, map[string]int{"value": 1}, errorCounts(t, s))
	bad.killSeen(dir)
	check("dead")
	folded, err := s.Fold(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, folded)
	check("folded")

	// Where another process has the series too, its value is the row's, and a process that has deleted its own hides nothing.
	good := startLocal(t, dir, 1)
	good.do(action{Do: "add", Family: counter, Values: []string{"0"}, V: 3},
		action{Do: "observe", Family: histogram, V: .5}, ready)
	again := startLocal(t, dir, 2)
	again.do(word(counter, []string{"0"}, shmstore.CounterFloat, -1), word(histogram, nil, shmstore.HistogramSum, 1e308),
		word(histogram, nil, shmstore.HistogramBuckets, huge), ready)
	assert.Equal(t, "c_total{l=\"0\"} 3\n"+want+"h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 0.5\nh_count 1\n", text(t, s))
}

func TestOwnFamilies(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	a, b := startLocal(t, dir, 0), startChild(t, dir, 1)
	a.do(action{Do: "add", Family: counterFamily("c_total"), V: 1})
	a.w.SetOverflow(7)
	b.do(action{Do: "add", Family: counterFamily("c_total"), V: 1}, action{Do: "add",
		Family: counterFamily("d_total"), V: 1})
	b.killSeen(dir)
	assert.Equal(t, "onescrape_store_files{state=\"dead\"} 1\nonescrape_store_files{state=\"live\"} 1\n"+
		"onescrape_store_overflow_series 7\nonescrape_store_series 3\n",
		text(t, s, "onescrape_store_files", "onescrape_store_overflow_series", "onescrape_store_series"))
	bytes := gatherAll(t, s)["onescrape_store_bytes"].Metric[0].Gauge.GetValue()
	var want float64
	for _, name := range []string{a.w.Name(), b.name} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		want += float64(info.Size())
	}
	assert.Equal(t, want, bytes)
}

// A Store goes on from what another one has counted.
func TestTotalsGoOn(t *testing.T) {
	dir := newDir(t)
	startLocal(t, dir, 0).do(action{Do: "add", Family: counterFamily("m"), V: 1}, ready)
	startLocal(t, dir, 1).do(action{Do: "set", Family: gaugeFamily("m", shmstore.Sum), V: 1}, ready)
	broken := filepath.Join(dir, "1-0000000000000001.shm")
	require.NoError(t, os.WriteFile(broken, nil, 0o400))
	names := []string{"onescrape_merge_conflicts_total", "onescrape_store_errors_total"}
	s := openStore(t, dir, Options{})
	first := text(t, s, names...)
	assert.Contains(t, first, `onescrape_merge_conflicts_total{family="m"} 1`)
	assert.Contains(t, first, `onescrape_store_errors_total{reason="corrupt"} 1`)
	require.NoError(t, os.Remove(broken))
	next := text(t, openStore(t, dir, Options{InitialTotals: s.Totals()}), names...)
	assert.Contains(t, next, `onescrape_merge_conflicts_total{family="m"} 1`, "it is the same")
	assert.Contains(t, next, `onescrape_store_errors_total{reason="corrupt"} 1`)
	assert.Equal(t, first, text(t, s, names...), "the maps are the new one's own")
}

// Whatever becomes of one file, a scrape succeeds, can be encoded, and holds the others' values.
func TestBitFlips(t *testing.T) {
	dir := newDir(t)
	good, bad := startLocal(t, dir, 0), startChild(t, dir, 1)
	defs := []shmstore.Family{
		counterFamily("c_total", "l"), gaugeFamily("g", shmstore.All, "l"), gaugeFamily("m", shmstore.MostRecent, "l"),
		histogramFamily("h", []float64{1, 2}, "l"), summaryFamily("s", "l"),
	}
	for i, def := range defs {
		do := []string{"add", "set", "set", "observe", "observe"}[i]
		for _, l := range []string{"x", "y", "z"} {
			bad.do(action{Do: do, Family: def, Values: []string{l}, V: 1.5})
		}
	}
	good.do(action{Do: "add", Family: counterFamily("good_total"), V: 5})
	bad.do(action{Do: "delete", Family: defs[0], Values: []string{"z"}}, ready)
	bad.killSeen(dir)
	kept := openStore(t, dir, Options{})
	want := users(t, kept)
	path := filepath.Join(dir, bad.name)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	r := rand.New(rand.NewPCG(9, 10))
	rounds := 1500
	if testing.Short() {
		rounds = 200
	}
	for range rounds {
		broken := append([]byte(nil), whole...)
		for range 1 + r.IntN(4) {
			i := r.IntN(len(broken))
			for broken[i] == 0 && r.IntN(20) > 0 {
				i = r.IntN(len(broken))
			}
			broken[i] ^= 1 << r.IntN(8)
		}
		if r.IntN(10) == 0 {
			broken = broken[:r.IntN(len(broken))]
		}
		require.NoError(t, f.Truncate(int64(len(broken))))
		_, err = f.WriteAt(broken, 0)
		require.NoError(t, err)
		for _, s := range []*Store{kept, openStore(t, dir, Options{})} {
			require.Equal(t, "good_total 5\n", text(t, s, "good_total"))
			users(t, s)
		}
		_, err = f.WriteAt(whole, 0)
		require.NoError(t, err)
	}
	assert.Equal(t, want, users(t, kept))
}

// A file that breaks in the middle of a pass leaves families that nobody has, until the next pass.
func TestFileThatBreaksWhileAnotherIsPlannedAnew(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	breaks, changes := startLocal(t, dir, 0), startLocal(t, dir, 1)
	breaks.do(action{Do: "observe", Family: summaryFamily("x"), V: 1})
	changes.do(action{Do: "add", Family: counterFamily("x_count"), V: 1})
	text(t, s)
	s.leaveOut(s.files[breaks.w.Name()], shmstore.ErrCorrupt)
	changes.do(action{Do: "add", Family: counterFamily("fresh_total"), V: 2})
	s.refreshAll()
	s.planAll()
	assert.Contains(t, text(t, s), "fresh_total 2\n")
}
