package master

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// A run follows from its draws: what happens by chance, each named by its kind and by how many of that kind were before it. So one
// draw can be left out without changing the others, and a history says what matters, and nothing else.

// kind is what is decided by a draw.
type kind int

// A draw of 0 is the mildest: nothing goes wrong, at once.
const (
	drawSetting  kind = iota // of the machine and the configuration
	drawCommand              // what operators, clients and accidents do next
	drawWait                 // how long until then
	drawWhich                // which process, port or number a command is about
	drawFate                 // of a worker
	drawStart                // how long a worker takes to start, and to be done
	drawLatency              // of messages and signals
	drawWork                 // how long work in the background takes
	drawShortage             // whether a call fails, and how
	drawPause                // of the master
	drawRandom               // what the supervisor asks for
	drawUpgrade              // what the new program is like
	drawDeploy               // what a release is like
	drawPort                 // by which the kernel chooses a socket
	drawFirst                // whether the master is process 1
	kinds
)

var kindNames = [kinds]string{"setting", "command", "wait", "which", "fate", "start", "latency", "work", "shortage", "pause", "random",
	"upgrade", "deploy", "port", "first"}

// draw is one decision.
type draw struct {
	kind   kind
	number int
	value  float64 // from 0 to 1
}

// draws decides. With a history every draw that is not in it is 0.
type draws struct {
	seed    uint64
	counts  [kinds]int
	history map[draw]float64 // by kind and number; nil: by the seed
	taken   []draw           // those that are not 0, if keep
	keep    bool
}

// next returns the next number from 0 to 1 of a kind.
func (d *draws) next(k kind) float64 {
	n := d.counts[k]
	d.counts[k]++
	if d.history != nil {
		return d.history[draw{kind: k, number: n}]
	}
	x := d.seed*0x9e3779b97f4a7c15 + uint64(k)*0xd1b54a32d192ed03 + uint64(n)*0x8cb92ba72f3d8dd7
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	v := float64((x^x>>31)>>11) / (1 << 53)
	if d.keep {
		d.taken = append(d.taken, draw{k, n, v})
	}
	return v
}

// chance is true with a probability; not for a draw of 0.
func (d *draws) chance(k kind, p float64) bool { return d.next(k) >= 1-p }

// between returns a duration; a for a draw of 0.
func (d *draws) between(k kind, a, b time.Duration) time.Duration {
	return a + time.Duration(d.next(k)*float64(b-a))
}

// below returns a number below n; 0 for a draw of 0.
func (d *draws) below(k kind, n int) int { return min(n-1, int(d.next(k)*float64(n))) }

// among returns one of some values; the first for a draw of 0.
func among[T any](d *draws, k kind, values ...T) T { return values[d.below(k, len(values))] }

// replay returns draws that are those of the history and else 0.
func replay(history []draw) *draws {
	d := &draws{history: make(map[draw]float64, len(history))}
	for _, one := range history {
		d.history[draw{kind: one.kind, number: one.number}] = one.value
	}
	return d
}

// writeHistory writes a history as a file: one draw a line.
func writeHistory(path string, steps int, comment string, history []draw) error {
	var b strings.Builder
	for line := range strings.Lines(comment) {
		b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	fmt.Fprintf(&b, "steps %d\n", steps)
	slices.SortFunc(history, func(a, b draw) int {
		if a.kind != b.kind {
			return int(a.kind - b.kind)
		}
		return a.number - b.number
	})
	for _, d := range history {
		fmt.Fprintf(&b, "%s %d %v\n", kindNames[d.kind], d.number, d.value)
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// readHistory reads what writeHistory wrote.
func readHistory(path string) (steps int, history []draw, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := fmt.Sscanf(line, "steps %d", &steps); err == nil {
			continue
		}
		var name string
		var d draw
		if _, err := fmt.Sscan(line, &name, &d.number, &d.value); err != nil {
			return 0, nil, fmt.Errorf("%s: %q: %w", path, line, err)
		}
		if d.kind = kind(slices.Index(kindNames[:], name)); d.kind < 0 {
			return 0, nil, fmt.Errorf("%s: there is no kind %q", path, name)
		}
		history = append(history, d)
	}
	return steps, history, nil
}

// shrink leaves out draws as long as the run still fails, and returns what is left. It tries no more runs than that. progress is told
// how many are left.
func shrink(history []draw, runs int, fails func([]draw) bool, progress func(left, runs int)) []draw {
	try := func(smaller []draw) bool {
		runs--
		if !fails(smaller) {
			return false
		}
		history = slices.Clone(smaller)
		return true
	}
	for k := range kinds { // all of a kind at once
		if runs > 0 {
			try(slices.DeleteFunc(slices.Clone(history), func(d draw) bool { return d.kind == k }))
		}
	}
	for size := len(history) / 2; size > 0 && runs > 0; {
		before := len(history)
		for from := 0; from < len(history) && runs > 0; {
			to := min(from+size, len(history))
			if !try(slices.Concat(history[:from], history[to:])) {
				from = to
			}
		}
		progress(len(history), runs)
		if len(history) == before || size > 1 {
			size /= 2
		}
	}
	return history
}
