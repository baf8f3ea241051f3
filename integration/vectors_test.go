package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
)

// TestForeignVectors reads directories that the libraries of other machines have written, each with what the library
// exposed for it: client_python 0.25 with all ten gauge modes, and client_ruby's DirectFileStore.
func TestForeignVectors(t *testing.T) {
	long(t)
	open := map[string]func(t *testing.T, dir string, expected []byte) *foreign.Dir{
		"client_python": func(t *testing.T, dir string, _ []byte) *foreign.Dir { return pythonDir(t, dir, foreign.Options{}) },
		"client_ruby": func(t *testing.T, dir string, expected []byte) *foreign.Dir {
			definitions := definitionsOf(t, expected)
			declare(t, dir, expected, definitions)
			d, err := ruby.Open(dir, definitions, foreign.Options{})
			require.NoError(t, err)
			return d
		},
	}
	for _, library := range slices.Sorted(maps.Keys(open)) {
		vectors, err := filepath.Glob(filepath.Join("testdata", library, "*.tar.gz"))
		require.NoError(t, err)
		require.NotEmpty(t, vectors)
		for _, vector := range vectors {
			t.Run(library+"/"+filepath.Base(vector), func(t *testing.T) {
				dir, expected := unpack(t, vector)
				s := openForeign(t, open[library](t, dir, expected))
				assertSame(t, expected, s)
				families, err := s.Gather()
				require.NoError(t, err)
				assert.Zero(t, storeErrors(families))
			})
		}
	}
}

func pythonDir(t *testing.T, dir string, o foreign.Options) *foreign.Dir {
	t.Helper()
	d, err := python.Open(dir, o)
	require.NoError(t, err)
	return d
}

// openForeign returns a Store of foreign directories alone.
func openForeign(t *testing.T, dirs ...*foreign.Dir) *aggregate.Store {
	t.Helper()
	s, err := aggregate.Open("", aggregate.Options{Foreign: dirs})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// assertSame compares what a library exposes with what the Store does, twice, because the second time only values are
// read.
func assertSame(t *testing.T, library []byte, s *aggregate.Store) {
	t.Helper()
	for range 2 {
		var b bytes.Buffer
		require.NoError(t, s.WriteText(&b))
		if !sameSamples(t, library, b.Bytes()) {
			return
		}
	}
}

// storeErrors returns how many files, or parts, were left out.
func storeErrors(families []*dto.MetricFamily) (n float64) {
	for _, mf := range families {
		if mf.GetName() == "onescrape_store_errors_total" {
			for _, m := range mf.Metric {
				n += m.Counter.GetValue()
			}
		}
	}
	return n
}

// unpack unpacks a vector: a directory, and what the library exposed for it.
func unpack(t *testing.T, vector string) (dir string, expected []byte) {
	t.Helper()
	f, err := os.Open(vector)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	dir = t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir, expected
		}
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		if name, ok := strings.CutPrefix(h.Name, "dir/"); ok && name != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		} else if h.Name == "expected.prom" {
			expected = b
		}
	}
}

// declare does what the process did that exposed the vector, after the directory was packed: client_ruby sets a metric
// without labels to 0 when it is declared, so of gauges that process has a value too.
func declare(t *testing.T, dir string, expected []byte, definitions map[string]ruby.Definition) {
	t.Helper()
	want, families := parseText(t, expected)
	for name, mf := range families {
		if mf.GetType() != dto.MetricType_GAUGE || len(mf.Metric[0].Label) > 0 && definitions[name].Aggregation != "all" ||
			len(mf.Metric[0].Label) > 1 {
			continue
		}
		pid, key := "1", ""
		if definitions[name].Aggregation == "all" {
			for _, m := range mf.Metric {
				p := m.Label[0].GetValue()
				if _, err := os.Stat(filepath.Join(dir, "metric_"+name+"___"+p+".bin")); err != nil {
					pid, key = p, "pid="+p
				}
			}
			require.Contains(t, want, name+`{pid="`+pid+`"}`)
		}
		file := filepath.Join(dir, "metric_"+name+"___"+pid+".bin")
		require.NoError(t, os.WriteFile(file, entryFile(true, entry{key, []float64{0, 1e9}}), 0o600))
	}
}

// definitionsOf returns what is to be written into a definitions file, of an exposition: in the vectors a gauge is
// called after its aggregation.
func definitionsOf(t *testing.T, expected []byte) map[string]ruby.Definition {
	t.Helper()
	_, families := parseText(t, expected)
	definitions := map[string]ruby.Definition{}
	for name, mf := range families {
		d := ruby.Definition{Type: strings.ToLower(mf.GetType().String()), Help: mf.GetHelp()}
		if mode, ok := strings.CutPrefix(name, "g_"); ok {
			d.Aggregation = mode
		}
		if h := mf.Metric[0].Histogram; h != nil {
			for _, b := range h.Bucket[:len(h.Bucket)-1] {
				d.Buckets = append(d.Buckets, b.GetUpperBound())
			}
		}
		definitions[name] = d
	}
	return definitions
}
