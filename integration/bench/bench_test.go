package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWorkIsPassedOn(t *testing.T) {
	for _, w := range append(matrix(true), matrix(false)...) {
		got, err := parseWork(w.args())
		require.NoError(t, err)
		require.Equal(t, w, got)
	}
	got, err := parseWork(work{}.args()) // of a role without any
	require.NoError(t, err)
	require.Equal(t, work{Format: textFormat}, got)
	_, err = parseWork([]string{"counters", "two", "3", textFormat})
	require.Error(t, err)
}

// A peer with other sums than ours is found, whatever is wrong with them.
func TestSameSums(t *testing.T) {
	w := work{whole, 1, 2, textFormat}
	want := map[string]float64{"a": 1, "b": 3}
	for _, test := range []struct {
		name string
		got  map[string]float64
		ok   bool
	}{
		{"the same", map[string]float64{"a": 1, "b": 3}, true},
		{"rounded", map[string]float64{"a": 1 + 1e-12, "b": 3}, true},
		{"off", map[string]float64{"a": 1.001, "b": 3}, false},
		{"less", map[string]float64{"a": 1}, false},
		{"more", map[string]float64{"a": 1, "b": 3, "c": 1}, false},
		{"others", map[string]float64{"a": 1, "c": 3}, false},
	} {
		require.Equal(t, test.ok, sameSums(w, want, test.got) == nil, test.name)
	}
	require.Error(t, sameSums(work{whole, 1, 3, textFormat}, want, want), "ours are not all there")
}

// The drawing is XML, has every peer that was measured, and says nothing of one that was not.
func TestDraw(t *testing.T) {
	r := report{Machine: "a & b", Peers: []peer{{name: ours}, {name: "other"}, {name: "gone"}}}
	for _, w := range matrix(false) {
		r.Rows = append(r.Rows, []result{{Work: w, CPU: time.Millisecond}, {Work: w, CPU: time.Second},
			{Work: w, Absent: "missing"}})
	}
	svg := string(draw(r))
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, 2*2, strings.Count(svg, `fill="none"`))
	require.Contains(t, svg, ">other<")
	require.Contains(t, svg, "a &amp; b")
}

func TestTexts(t *testing.T) {
	require.Equal(t, "0.50", ratio(1, 2))
	require.Equal(t, "2.00", ratio(2, 1))
	require.Equal(t, "0.0030", ratio(3, 1000))
	require.Equal(t, "0.050", ratio(5, 100))
	require.Equal(t, "1.5 MiB", bytesText(3<<19))
	require.Equal(t, "1 KiB", bytesText(1))
	require.Equal(t, "1.23 ms", timeText(1234567*time.Nanosecond))
}
