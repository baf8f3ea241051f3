package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"
)

// report is everything that was measured.
type report struct {
	Machine string
	Peers   []peer
	Rows    [][]result // by work, then by peer
	Calls   []call
	Rollout rollout
	Churn   []churning
	Losses  []loss
	Servers []served
}

// machine says what it was measured on.
func machine() string {
	model, kernel := "an unknown processor", "an unknown kernel"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel, _, _ = strings.Cut(strings.TrimSpace(string(text)), "-")
	}
	versions := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			for _, name := range []string{"prometheus/client_golang", "VictoriaMetrics/metrics", "valyala/fasthttp"} {
				if strings.HasSuffix(d.Path, name) {
					versions = append(versions, name[strings.Index(name, "/")+1:]+" "+d.Version)
				}
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s %s, %s", runtime.NumCPU(), model, runtime.GOOS, kernel, strings.Join(versions, ", "))
}

// print writes the report as text. A ratio is our time as a share of the peer's: below 1 we are quicker.
func (r *report) print(to io.Writer) error {
	fmt.Fprintf(to, "%s\n", r.Machine)
	for _, p := range r.Peers {
		if p.missing != "" {
			fmt.Fprintf(to, "MISSING %s: %s\n", p.name, p.missing)
		}
	}
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(columns ...any) {
		for _, c := range columns {
			fmt.Fprintf(t, "%v\t", c)
		}
		fmt.Fprintln(t)
	}
	if len(r.Rows) > 0 {
		fmt.Fprintln(to, "\nA scrape: our time as a share of the peer's, by the clock and of the processor, and what it takes.")
		row("workers", "series", "", "format", "peer", "ratio", "of cpu", "time", "cpu", "scraper's memory", "store", "bytes")
	}
	for _, results := range r.Rows {
		us := results[0]
		for _, res := range results {
			w := res.Work
			if res.Absent == unknown {
				continue
			}
			if res.Absent != "" {
				row(w.Workers, w.Series, w.Kind, w.Format, res.Peer, "-", "-", res.Absent, "", "", "", "")
				continue
			}
			store := "-"
			if res.Store > 0 {
				store = bytesText(res.Store)
			}
			row(w.Workers, w.Series, w.Kind, w.Format, res.Peer, ratio(us.Median, res.Median), ratio(us.CPU, res.CPU), timeText(res.Median), timeText(res.CPU),
				bytesText(res.Memory), store, bytesText(int64(res.Bytes)))
		}
	}
	t.Flush()
	if len(r.Calls) > 0 {
		fmt.Fprintln(to, "\nThe hot path, one goroutine.")
		row("call", "peer", "ratio", "ns")
		for _, c := range r.Calls {
			for _, p := range r.Peers {
				if took := c.Took[p.name]; took > 0 {
					row(c.Name, p.name, ratio(c.Took[ours], took), fmt.Sprintf("%.1f", float64(took)/1000))
				}
			}
		}
		t.Flush()
	}
	if r.Rollout.All.Steady > 0 {
		fmt.Fprintf(to, "\nThe first scrape after a change of %v, as a multiple of a steady one.\n", r.Rollout.Work)
		row("change", "ratio", "of cpu", "first", "steady")
		for _, c := range []struct {
			name string
			change
		}{{"a rollout of all workers, a second later", r.Rollout.All}, {"the fold of one worker", r.Rollout.One}} {
			row(c.name, ratio(c.First, c.Steady), fmt.Sprintf("%.1f", c.CPU), timeText(c.First), timeText(c.Steady))
		}
		t.Flush()
	}
	if len(r.Churn) > 0 {
		fmt.Fprintf(to, "\nA scrape a second while workers make and delete %d label sets a second each, beside one at rest.\n", churnRate)
		row("workers", "series at rest", "cpu", "worst", "at rest", "store", "as many series at rest", "are")
		for _, c := range r.Churn {
			row(c.Work.Workers, c.Work.Series, timeText(c.CPU), timeText(c.Worst), timeText(c.Rest), bytesText(c.Store), timeText(c.Full), c.Held)
		}
		t.Flush()
	}
	if len(r.Losses) > 0 {
		fmt.Fprintf(to, "\nWhat the workers of %v lose on a busy machine when they are scraped ten times a second.\n", r.Losses[0].Work)
		row("hashed before each increment", "slower", "scrapes' processor time", "pairs of stretches")
	}
	for _, l := range r.Losses {
		row(bytesText(int64(l.Bytes)), fmt.Sprintf("%.1f %%", 100*l.Slower), fmt.Sprintf("%.1f %%", 100*l.Scrapes), l.Pairs)
	}
	t.Flush()
	if len(r.Servers) > 0 {
		fmt.Fprintln(to, "\nRequests a second of a whole server, as a share of the first's.")
		row("server", "ratio", "a second")
		for _, s := range r.Servers {
			row(s.Name, fmt.Sprintf("%.2f", s.PerSecond/r.Servers[0].PerSecond), fmt.Sprintf("%.0f", s.PerSecond))
		}
	}
	return t.Flush()
}

func ratio(us, peer time.Duration) string {
	v := float64(us) / float64(peer)
	digits := 2
	for limit := .1; digits < 5 && v < limit; limit /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f", digits, v)
}

func timeText(d time.Duration) string { return fmt.Sprintf("%.3g ms", float64(d)/1e6) }

func bytesText(n int64) string {
	return cmp.Or(scaled(n, 30, "GiB"), scaled(n, 20, "MiB"), fmt.Sprintf("%d KiB", (n+1023)>>10))
}

// scaled is "" for what is less than one of the unit.
func scaled(n int64, shift uint, unit string) string {
	if n < 1<<shift {
		return ""
	}
	return fmt.Sprintf("%.3g %s", float64(n)/float64(int64(1)<<shift), unit)
}
