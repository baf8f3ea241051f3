package aggregate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rewriteArchive changes the payload of a store's archive, and makes its checksums right.
func rewriteArchive(t testing.TB, dir string, change func(payload []byte) []byte) {
	t.Helper()
	const length, payloadSum, headSum, body = 56, 64, 68, 128
	path := filepath.Join(dir, "archive")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n := body + int(binary.NativeEndian.Uint64(b[length:]))
	b = append(b[:body:body], change(b[body:n])...)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	binary.NativeEndian.PutUint64(b[length:], uint64(len(b)-body))
	binary.NativeEndian.PutUint32(b[payloadSum:], crc32.Checksum(b[body:], castagnoli))
	binary.NativeEndian.PutUint32(b[headSum:], crc32.Checksum(b[:headSum], castagnoli))
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// A text that is not UTF-8 spoils what it is part of and no more, is counted once, and the next fold leaves it behind.
func TestLabelValueThatIsNotUTF8InAnArchive(t *testing.T) {
	first := counterFamily("requests_total", "path")
	first.Help = "Help of it."
	second := counterFamily("requests2_total", "route")
	visit := func(f int, value string, n float64) action {
		family := first
		if f == 2 {
			family = second
		}
		return action{Do: "add", Family: family, Values: []string{value}, V: n}
	}
	traced := func(value, trace string) action {
		a := exemplarOf(first, 1, 5, trace)
		a.Values = []string{value}
		return a
	}
	for _, c := range []struct {
		name, spoil  string
		errors       int
		there, after []string
	}{
		{"label value", "/b", 1, []string{`requests_total{path="/a"} 1`, `requests_total{path="/c"} 4`, `requests2_total{route="/r"} 8`},
			[]string{`requests_total{path="/b"} 16`}},
		{"help", "Help of it.", 1, []string{`requests2_total{route="/r"} 8`}, []string{`requests_total{path="/b"} 16`}},
		{"metric name", "requests_total", 1, []string{`requests2_total{route="/r"} 8`}, []string{`requests_total{path="/b"} 16`}},
		{"label name", "route", 1, []string{`requests_total{path="/a"} 1`, `requests_total{path="/b"} 2`, `requests_total{path="/c"} 4`},
			[]string{`requests_total{path="/b"} 18`}},
		{"exemplar", "trace-of-c", 0, []string{`requests_total{path="/a"} 1`, `requests_total{path="/b"} 2`,
			`requests_total{path="/c"} 4`, `requests2_total{route="/r"} 8`}, []string{`requests_total{path="/b"} 18`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			leave(t, dir, 0, visit(1, "/a", 1), visit(1, "/b", 2), visit(1, "/c", 4), visit(2, "/r", 8),
				traced("/a", "trace-of-a"), traced("/c", "trace-of-c"))
			require.Equal(t, 1, mustFold(t, openStore(t, dir, Options{})))
			bad := bytes.Repeat([]byte{0xff}, len(c.spoil))
			rewriteArchive(t, dir, func(payload []byte) []byte {
				require.True(t, bytes.Contains(payload, []byte(c.spoil)))
				return bytes.Replace(payload, []byte(c.spoil), bad, 1)
			})

			var log logLines
			s := openStore(t, dir, Options{Logger: log.logger()})
			check := func(lines []string, errors int) {
				t.Helper()
				got := text(t, s)
				assert.True(t, utf8.ValidString(got), got)
				for _, line := range lines {
					assert.Contains(t, got, line+"\n")
				}
				assert.Equal(t, errors, errorCounts(t, s)["corrupt"])
			}
			check(c.there, c.errors)
			check(c.there, c.errors)
			for _, f := range gatherAll(t, s) {
				for _, m := range f.Metric {
					for _, l := range m.GetCounter().GetExemplar().GetLabel() {
						assert.True(t, utf8.ValidString(l.GetValue()))
					}
				}
			}
			assert.Len(t, log.about("left out"), c.errors)

			leave(t, dir, 0, visit(1, "/b", 16))
			require.Equal(t, 1, mustFold(t, s))
			check(append(c.there[1:1:1], c.after...), c.errors)
			archive, err := os.ReadFile(filepath.Join(dir, "archive"))
			require.NoError(t, err)
			assert.False(t, bytes.Contains(archive, bad), "it was folded on")
		})
	}
}
