package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The drawing: what a scrape takes of the processor, which other work on the machine stretches less than the time, over
// the number of workers and over the number of series, both axes by powers.

// plot is one of its two parts.
type plot struct {
	title  string
	ticks  []float64
	labels []string
	x      func(work) (float64, bool) // whether some work is in it, and where
}

var plots = [2]plot{
	{"10,000 counters, by number of workers", []float64{1, 8, 32}, []string{"1", "8", "32"},
		func(w work) (float64, bool) {
			return float64(w.Workers), w.Kind == whole && w.Series == 10_000 && w.Format == textFormat
		}},
	{"8 workers, by number of counters", []float64{1e3, 1e4, 1e5}, []string{"1,000", "10,000", "100,000"},
		func(w work) (float64, bool) {
			return float64(w.Series), w.Kind == whole && w.Workers == 8 && w.Format == textFormat
		}},
}

// Places in the drawing, in its units.
const (
	plotWidth, plotHeight = 300, 260
	plotLeft, plotTop     = 70, 40
	plotGap               = 60
	legendWidth           = 190
	least, most           = 1e-5, 20 // seconds
)

// colors tell the peers apart, also without red and green.
var colors = []string{"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// draw returns the drawing as SVG.
func draw(r report) []byte {
	var b strings.Builder
	width, height := plotLeft+2*plotWidth+plotGap+legendWidth, plotTop+plotHeight+60
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" `+
		`font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	y := func(seconds float64) float64 {
		return plotTop + plotHeight*math.Log(most/seconds)/math.Log(most/least)
	}
	for i, p := range plots {
		left := float64(plotLeft + i*(plotWidth+plotGap))
		first, last := p.ticks[0], p.ticks[len(p.ticks)-1]
		x := func(v float64) float64 { return left + plotWidth*math.Log(v/first)/math.Log(last/first) }
		text(&b, left, plotTop-16, "start", p.title)
		for decade := least; decade < most; decade *= 10 {
			fmt.Fprintf(&b, `<path d="M%.0f %.1fh%d" stroke="#ddd"/>`+"\n", left, y(decade), plotWidth)
			text(&b, left-6, y(decade)+4, "end", axisText(decade))
		}
		for k, tick := range p.ticks {
			fmt.Fprintf(&b, `<path d="M%.1f %dv%d" stroke="#ddd"/>`+"\n", x(tick), plotTop, plotHeight)
			text(&b, x(tick), plotTop+plotHeight+18, "middle", p.labels[k])
		}
		for k := range r.Peers {
			var path []string
			for _, row := range r.Rows {
				if at, in := p.x(row[k].Work); in && row[k].Absent == "" {
					path = append(path, fmt.Sprintf("%.1f %.1f", x(at), y(row[k].CPU.Seconds())))
				}
			}
			if len(path) == 0 {
				continue
			}
			stroke := 1.5
			if k == 0 {
				stroke = 3
			}
			fmt.Fprintf(&b, `<path d="M%s" fill="none" stroke="%s" stroke-width="%v"/>`+"\n", strings.Join(path, "L"),
				colors[k], stroke)
			for _, point := range path {
				at := strings.Fields(point)
				fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="3" fill="%s"/>`+"\n", at[0], at[1], colors[k])
			}
		}
	}
	left := float64(plotLeft + 2*plotWidth + plotGap + 16)
	for k, p := range r.Peers {
		at := float64(plotTop + 12 + 20*k)
		fmt.Fprintf(&b, `<rect x="%.0f" y="%.0f" width="12" height="12" fill="%s"/>`+"\n", left, at-10, colors[k])
		text(&b, left+18, at, "start", p.name)
	}
	text(&b, plotLeft, float64(height-14), "start", "Processor time of one scrape, without network: "+r.Machine)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	s = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, s)
}

// axisText is a power of ten of seconds with its unit.
func axisText(seconds float64) string {
	return time.Duration(math.Round(seconds * 1e9)).String()
}
