package foreign_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

// kinds are files of each library and type.
var kinds = []struct {
	name string
	open func(dir string, o foreign.Options) (*foreign.Dir, error)
}{
	{"counter_1.db", python.Open},
	{"histogram_1.db", python.Open},
	{"summary_1.db", python.Open},
	{"gauge_liveall_1.db", python.Open},
	{"gauge_mostrecent_1.db", python.Open},
	{"counter_1-0.db", rubymmap.Open},
	{"histogram_1-0.db", rubymmap.Open},
	{"gauge_all_1-0.db", rubymmap.Open},
	{"metric_m_total___1.bin", openRuby},
	{"metric_defined___1.bin", openRuby},
	{"metric_m___1.bin", openRuby},
}

func openRuby(dir string, o foreign.Options) (*foreign.Dir, error) {
	return ruby.Open(dir, map[string]ruby.Definition{
		"defined": {Type: "histogram", Buckets: []float64{1, 2}},
	}, o)
}

// FuzzView gives a view any content that grows into any other: it is left out, or all that it offers makes sense.
func FuzzView(f *testing.F) {
	add := func(kind byte, doubles int, keys ...string) {
		b := make([]byte, 8)
		for _, key := range keys {
			padding := make([]byte, 8-(len(key)+4)%8)
			for i := range padding {
				padding[i] = ' '
			}
			length := len(key)
			if kind >= 8 { // client_ruby's, whose keys are as long as their padding makes them
				length += len(padding)
			}
			b = binary.NativeEndian.AppendUint32(b, uint32(length))
			b = append(append(b, key...), padding...)
			b = append(b, make([]byte, 8*doubles)...)
		}
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
		for _, n := range []uint16{0, uint16(len(b) / 2), uint16(len(b))} {
			f.Add(kind, n, b)
		}
	}
	add(0, 1, `["c", "c_total", {"a": "x", "b": "\u00e4"}, "help"]`, `["c", "c_total", {}]`)
	add(1, 2, `["h", "h_sum", {"a": "x"}, ""]`, `["h", "h_bucket", {"a": "x", "le": "1.0"}, ""]`,
		`["h", "h_bucket", {"le": "+Inf"}, ""]`)
	add(2, 2, `["s", "s_sum", {}, ""]`, `["s", "s_count", {}, ""]`)
	add(3, 2, `["g", "g", {"pid": "1"}, ""]`)
	add(4, 2, `["g", "g", {"l": "1"}, ""]`)
	add(5, 1, `["c","c",["a","b"],["x",404]]`)
	add(6, 1, `["h","h_bucket",["le"],["1"]]`, `["h","h_count",[],[]]`)
	add(7, 1, `["g","g",["a"],[null]]`)
	add(8, 2, `a=x&b=%20`)
	add(9, 2, `le=1`, `le=sum`)
	add(10, 1, `quantile=sum`)
	// Small files that expand, and one whose key is a hole.
	var mmap, ruby []string
	for i := range 1000 {
		mmap = append(mmap, fmt.Sprintf(`["h","h_bucket",["le"],["%d"]]`, i), fmt.Sprintf(`["h","h_sum",["l"],["%d"]]`, i))
		ruby = append(ruby, fmt.Sprintf("le=%d", i), fmt.Sprintf("le=sum&l=%d", i))
	}
	add(6, 1, mmap...)
	add(9, 2, ruby...)
	add(10, 1, "l="+strings.Repeat("\x00", 1<<16))
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))

	f.Fuzz(func(t *testing.T, kind byte, first uint16, content []byte) {
		dir := t.TempDir()
		k := kinds[int(kind)%len(kinds)]
		path := filepath.Join(dir, k.name)
		d, err := k.open(dir, foreign.Options{Logger: quiet})
		require.NoError(t, err)
		v := d.View()
		defer v.Close()
		for _, part := range [][]byte{content[:min(int(first), len(content))], content} {
			require.NoError(t, os.WriteFile(path, part, 0o600))
			require.NoError(t, v.Update())
			require.Equal(t, 1, len(v.Readers())+len(v.Broken()))
			for _, err := range v.Broken() {
				require.True(t, errors.Is(err, shmstore.ErrCorrupt), "%v", err)
			}
			for _, r := range v.Readers() {
				check(t, r)
			}
		}
	})
}

// check makes sure that what a Reader offers makes sense.
func check(t *testing.T, r *foreign.Reader) {
	t.Helper()
	require.NoError(t, r.Refresh())
	families := r.Families()
	for i := range families {
		require.NoError(t, families[i].Check())
	}
	require.NoError(t, r.Read(func(words []uint64) {
		end := 0
		for _, s := range r.Series() {
			require.Less(t, int(s.Family), len(families))
			require.EqualValues(t, families[s.Family].Words(), s.Words)
			require.Len(t, s.Values, len(families[s.Family].Labels))
			require.EqualValues(t, end, s.Cell, "cells of series lie one behind the other")
			end += int(s.Words)
		}
		require.Len(t, words, end)
	}))
}
