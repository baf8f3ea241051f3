package aggregate

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
)

// scraperOf is set in a process that scrapes the store there twice and prints its peak memory; foreignOf adds a directory,
// of client_python unless libraryOf names another library.
const (
	scraperOf = "ONESCRAPE_TEST_SCRAPER_OF"
	foreignOf = "ONESCRAPE_TEST_FOREIGN_OF"
	libraryOf = "ONESCRAPE_TEST_LIBRARY_OF"
)

// TestScraperForMemory is that process.
func TestScraperForMemory(t *testing.T) {
	path := os.Getenv(scraperOf)
	if path == "" {
		t.Skip("a part of TestSmallFilesDoNotExpand")
	}
	o := Options{}
	if at := os.Getenv(foreignOf); at != "" {
		f, err := python.Open(at, foreign.Options{})
		if l := rubyLibraries[os.Getenv(libraryOf)]; l != nil {
			f, err = l.open(at)
		}
		require.NoError(t, err)
		o.Foreign = append(o.Foreign, f)
	}
	s := openStore(t, path, o)
	for range 2 {
		var n countingWriter
		require.NoError(t, s.WriteText(&n))
		fmt.Println("text", int(n))
	}
	for reason, n := range errorCounts(t, s) {
		fmt.Println("reason", reason, n)
	}
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Println("peak", strings.Fields(rest)[0])
		}
	}
}

// scraperPeak returns the peak memory in bytes of a process that scrapes, how much text it gets, and why
// something was left out.
func scraperPeak(t *testing.T, store, foreign string) (peak, text int64, reason string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(exe, "-test.run=^TestScraperForMemory$", "-test.v")
	c.Env = append(os.Environ(), scraperOf+"="+store, foreignOf+"="+foreign)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for line := range strings.Lines(string(out)) {
		fmt.Sscanf(line, "text %d", &text)
		fmt.Sscanf(line, "peak %d", &peak)
		fmt.Sscanf(line, "reason %s", &reason)
	}
	require.Positive(t, peak, "%s", out)
	return peak << 10, text, reason
}

// bytesOf returns how many bytes the files of a directory have.
func bytesOf(t *testing.T, dir string) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".old") {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}

// Small files do not become large in a scraper, and nothing that is honest is left out for it.
func TestSmallFilesDoNotExpand(t *testing.T) {
	long(t)
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	for _, c := range []struct {
		name   string
		fill   func(t *testing.T, dir string) (foreign string)
		reason string // "": nothing is left out
	}{
		{"a label name of 1 MiB", withLongName, "definition"},
		{"long label names at the limit", withManyLongNames, "corrupt"},
		{"series that share their cells", withSharedCells, "corrupt"},
		{"bounds and label sets of client_python", withProduct, "corrupt"},
		{"very many families", withFamilies, ""},
		{"1,024 bounds and long labels", withBounds, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			at := c.fill(t, dir)
			size := bytesOf(t, dir)
			if at != "" {
				size += bytesOf(t, at)
			}
			peak, text, reason := scraperPeak(t, dir, at)
			t.Logf("%d KiB of files, %d KiB of text, peak %d KiB", size>>10, text>>10, peak>>10)
			assert.Less(t, peak, 100*size+64<<20)
			assert.Equal(t, c.reason, reason)
		})
	}
}

// rawFile is a file of a process that holds what no writer of today writes.
type rawFile struct {
	path    string
	records []byte // with the header
	cells   []byte // which follow them
	at      uint64 // where cells begin
}

// newRawFile begins a file that may have so many bytes of records.
func newRawFile(t *testing.T, dir string, room int) *rawFile {
	t.Helper()
	d, err := shmstore.OpenDir(dir, shmstore.DirOptions{})
	require.NoError(t, err)
	w, err := d.Create(shmstore.WriterOptions{})
	require.NoError(t, err)
	path := filepath.Join(dir, w.Name())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return &rawFile{path: path, records: b[:4096], at: uint64(room)}
}

func varstring(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (f *rawFile) record(kind uint16, number uint32, rest []byte, sum func(r []byte) uint32) {
	for len(rest)%8 != 0 {
		rest = append(rest, 0)
	}
	r := make([]byte, 16, 16+len(rest))
	r = append(r, rest...)
	binary.NativeEndian.PutUint32(r, uint32(len(r)))
	binary.NativeEndian.PutUint16(r[4:], kind)
	binary.NativeEndian.PutUint32(r[12:], number)
	binary.NativeEndian.PutUint32(r[8:], sum(r))
	f.records = append(f.records, r...)
}

func castagnoli(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return sum
}

func (f *rawFile) family(def shmstore.Family) {
	b := []byte{byte(def.Type), byte(def.Mode)}
	b = binary.NativeEndian.AppendUint16(b, uint16(len(def.Labels)))
	for _, s := range append([]string{def.Name, def.Help, def.Unit}, def.Labels...) {
		b = varstring(b, s)
	}
	if len(def.Bounds) > 0 {
		b = binary.NativeEndian.AppendUint16(b, 1)
		b = binary.NativeEndian.AppendUint32(b, uint32(8*len(def.Bounds)))
		for _, v := range def.Bounds {
			b = binary.NativeEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	b = append(b, 0, 0)
	f.record(2, 0, b, func(r []byte) uint32 { return castagnoli(r[:8], r[12:]) })
}

// series adds a series of a family, with cells of its own or those that were made last. It counts 1.
func (f *rawFile) series(family uint32, words int, own bool, values ...string) {
	var body []byte
	for _, v := range values {
		body = varstring(body, v)
	}
	if own || len(f.cells) == 0 {
		f.cells = append(f.cells, make([]byte, (8*words+63)/64*64)...)
		binary.NativeEndian.PutUint64(f.cells[len(f.cells)-(8*words+63)/64*64:], 1)
	}
	r := make([]byte, 64, 64+len(body))
	binary.NativeEndian.PutUint64(r, 1<<8|0x5a)
	binary.NativeEndian.PutUint64(r[24:], f.at+uint64(len(f.cells)-(8*words+63)/64*64))
	binary.NativeEndian.PutUint32(r[32:], uint32(words))
	binary.NativeEndian.PutUint32(r[36:], uint32(len(body)))
	n := len(body)
	f.record(4, family, append(r, body...), func(r []byte) uint32 {
		return castagnoli(r[:8], r[12:16], r[40:72], make([]byte, 8), r[80:80+n])
	})
}

func (f *rawFile) write(t *testing.T) {
	t.Helper()
	b := f.records
	binary.NativeEndian.PutUint64(b[192:], uint64(len(b)))
	require.LessOrEqual(t, len(b), int(f.at))
	b = append(b, make([]byte, int(f.at)-len(b))...)
	b = append(b, f.cells...)
	b = append(b, make([]byte, -len(b)&4095)...)
	binary.NativeEndian.PutUint64(b[200:], uint64(len(b)))
	require.NoError(t, os.WriteFile(f.path, b, 0o400))
}

func withLongName(t *testing.T, dir string) string {
	f := newRawFile(t, dir, 2<<20)
	f.family(counterFamily("c_total", strings.Repeat("l", 1<<20)))
	for i := range 1000 {
		f.series(0, 2, true, strconv.Itoa(i))
	}
	f.write(t)
	return ""
}

func withManyLongNames(t *testing.T, dir string) string {
	labels, values := make([]string, 64), make([]string, 64)
	for i := range labels {
		labels[i] = fmt.Sprintf("l%03d", i) + strings.Repeat("l", shmstore.MaxName-4)
	}
	f := newRawFile(t, dir, 1<<20)
	f.family(counterFamily("c_total", labels...))
	for i := range 1000 {
		values[0] = strconv.Itoa(i)
		f.series(0, 2, true, values...)
	}
	f.write(t)
	return ""
}

func withSharedCells(t *testing.T, dir string) string {
	bounds := make([]float64, 4096)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	def := histogramFamily("h", bounds, "l")
	f := newRawFile(t, dir, 1<<20)
	f.family(def)
	for i := range 2000 {
		f.series(0, def.Words(), false, strconv.Itoa(i))
	}
	f.write(t)
	return ""
}

func withProduct(t *testing.T, _ string) string {
	dir := foreignDir(t)
	h := startDict(t, dir, "histogram_2.db")
	for i := range 1000 {
		h.set(pyKey("h", "h_bucket", "l", "x", "le", strconv.Itoa(i)), 1)
	}
	for i := range 5000 {
		h.set(pyKey("h", "h_sum", "l", strconv.Itoa(i)), 1)
	}
	return dir
}

func withFamilies(t *testing.T, dir string) string {
	p := startLocal(t, dir, 0)
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for i := range n {
		p.do(action{Do: "add", Family: counterFamily(fmt.Sprintf("family_%d_total", i), "l"), Values: []string{"x"}, V: 1})
	}
	return ""
}

func withBounds(t *testing.T, dir string) string {
	bounds := make([]float64, 1024)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	p := startLocal(t, dir, 0)
	for i := range 100 {
		values := []string{strings.Repeat("v", 400), strconv.Itoa(i)}
		p.do(action{Do: "observe", Family: histogramFamily("h", bounds, strings.Repeat("k", 60), "l"), Values: values, V: 3})
	}
	long := strings.Repeat("k", shmstore.MaxName)
	p.do(action{Do: "observe", Family: histogramFamily("long", bounds, long), Values: []string{long}, V: 3})
	return ""
}

// Older programs took longer names. Their family is left out, and nothing else of the file.
func TestStoredLongNameLeavesOutItsFamilyAlone(t *testing.T) {
	for _, def := range []shmstore.Family{
		counterFamily("c_total", strings.Repeat("l", shmstore.MaxName+1)),
		counterFamily(strings.Repeat("c", shmstore.MaxName+1), "l"),
		{Name: "c_total", Labels: []string{"l"}, Type: shmstore.CounterType, Help: strings.Repeat("h", shmstore.MaxHelp+1)},
	} {
		dir := newDir(t)
		f := newRawFile(t, dir, 1<<20)
		f.family(def)
		f.family(counterFamily("other_total", "l"))
		f.series(0, 2, true, "x")
		f.series(1, 2, true, "y")
		f.write(t)
		s := openStore(t, dir, Options{})
		assert.Equal(t, "other_total{l=\"y\"} 1\n", text(t, s))
		assert.Equal(t, map[string]int{"definition": 1}, errorCounts(t, s))
	}
}
