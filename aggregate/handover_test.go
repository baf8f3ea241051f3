package aggregate

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A series that one process makes before the other deletes it is shown at every instant, and so in every scrape, whenever
// in a pass this happens.
func TestSeriesIsHandedOverDuringAScrape(t *testing.T) {
	counter := counterFamily("c_total", "l")
	add := func(l string) action { return action{Do: "add", Family: counter, Values: []string{l}, V: 1} }
	for at := 1; at <= 2; at++ {
		for _, slots := range [][2]int{{0, 1}, {1, 0}} {
			dir := newDir(t)
			from, to := startLocal(t, dir, slots[0]), startLocal(t, dir, slots[1])
			from.do(add("x"), ready)
			to.do(add("y"), ready)
			s := openStore(t, dir, Options{})
			require.Equal(t, "c_total{l=\"x\"} 1\nc_total{l=\"y\"} 1\n", text(t, s))
			calls := 0
			s.now = func() uint64 {
				if calls++; calls == at {
					to.do(add("x"))
					from.do(action{Do: "delete", Family: counter, Values: []string{"x"}})
				}
				return shmstore.Monotonic()
			}
			first := text(t, s)
			require.GreaterOrEqual(t, calls, at)
			assert.Regexp(t, "^c_total{l=\"x\"} [12]\nc_total{l=\"y\"} 1\n$", first)
			assert.Equal(t, "c_total{l=\"x\"} 2\nc_total{l=\"y\"} 1\n", text(t, s))
		}
	}
}

// handover is a series that moves from one process to another: that has it, and then it is deleted.
type handover struct {
	family   shmstore.Family
	from, to doer
}

func (h *handover) write(v float64) action {
	a := action{Do: "add", Family: h.family, Values: []string{"x"}, V: v}
	if h.family.Mode != 0 {
		a.Do = "set"
	}
	return a
}

func (h *handover) do() {
	h.to.do(h.write(1))
	h.from.do(action{Do: "delete", Family: h.family, Values: []string{"x"}}, action{Do: "release"})
}

// firstAndSecond returns two processes, that first whose file comes first.
func firstAndSecond(t *testing.T, dir string) (first, second *local) {
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	a.do(ready)
	b.do(ready)
	if a.w.Name() > b.w.Name() {
		return b, a
	}
	return a, b
}

// The file that is looked at first makes the series, then the other deletes it, before it is looked at.
func TestFoldLosesNoSeriesThatIsHandedOverWhileItLooks(t *testing.T) {
	for _, name := range []string{"between two looks", "at the second look", "to a process that starts now"} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			to, from := firstAndSecond(t, dir)
			h := handover{counterFamily("c_total", "l"), from, to}
			from.do(h.write(5))
			to.do(action{Do: "add", Family: h.family, Values: []string{"y"}, V: 1})
			// Something that the fold can take.
			from.do(action{Do: "add", Family: h.family, Values: []string{"z"}, V: 1},
				action{Do: "delete", Family: h.family, Values: []string{"z"}}, action{Do: "release"})
			s := openStore(t, dir, Options{})
			looks, wanted := 0, 1
			if name == "at the second look" {
				wanted = 2
			}
			s.foldLook = func(file string) {
				if file != from.w.Name() {
					return
				}
				if looks++; looks == wanted {
					if name == "to a process that starts now" {
						h.to = startLocal(t, dir, 2)
					}
					h.do()
				}
			}
			mustFold(t, s)
			require.GreaterOrEqual(t, looks, wanted)
			s.foldLook = nil
			const want = "c_total{l=\"x\"} 6\nc_total{l=\"y\"} 1\n"
			assert.Equal(t, want, text(t, s))
			mustFold(t, s)
			assert.Equal(t, want, text(t, s))
		})
	}
}

// A process dies that shows a series which a living one has deleted; another that starts during the fold has it.
func TestFoldLosesNoSeriesThatIsHandedOverBeforeADeath(t *testing.T) {
	dir := newDir(t)
	h := handover{family: counterFamily("c_total", "l")}
	deletes, shows := startLocal(t, dir, 0), startChild(t, dir, 1)
	deletes.do(h.write(2), action{Do: "delete", Family: h.family, Values: []string{"x"}}, action{Do: "release"}, ready)
	shows.do(h.write(5), ready)
	s := openStore(t, dir, Options{})
	require.Equal(t, "c_total{l=\"x\"} 7\n", text(t, s))
	started := false
	s.foldLook = func(string) {
		if !started {
			started = true
			startLocal(t, dir, 2).do(h.write(1), ready)
			shows.killSeen(dir)
		}
	}
	mustFold(t, s)
	require.True(t, started)
	assert.Equal(t, "c_total{l=\"x\"} 8\n", text(t, s))
}

// lookOn calls do when a scrape of s asks for the nth time what time it is, which is before it reads a file.
func lookOn(s *Store, n int, do func()) (calls *int) {
	calls = new(int)
	s.now = func() uint64 {
		if *calls++; *calls == n {
			do()
		}
		return shmstore.Monotonic()
	}
	return calls
}

// A process starts and makes a series, then another deletes it: that one is not among the files that were listed.
func TestScrapeMissesNoSeriesThatIsHandedOverToAProcessThatStarts(t *testing.T) {
	for _, family := range []shmstore.Family{counterFamily("m_total", "l"), gaugeFamily("m", shmstore.Sum, "l")} {
		for _, slots := range [][2]int{{0, 1}, {1, 0}} {
			dir := newDir(t)
			first, second := firstAndSecond(t, dir)
			from := []*local{first, second}[slots[0]]
			h := handover{family: family, from: from}
			from.do(h.write(1))
			steady := counterFamily("c_total")
			first.do(action{Do: "add", Family: steady, V: 1})
			second.do(action{Do: "add", Family: steady, V: 1})
			s := openStore(t, dir, Options{})
			require.Equal(t, "c_total 2\n"+family.Name+"{l=\"x\"} 1\n", text(t, s))
			for at := 1; at <= 2; at++ {
				calls := lookOn(s, at, func() {
					h.to = startLocal(t, dir, 2)
					h.do()
				})
				assert.Regexp(t, family.Name+"{l=\"x\"} [1-3]\n$", text(t, s))
				require.GreaterOrEqual(t, *calls, at)
				assert.Regexp(t, family.Name+"{l=\"x\"} [1-3]\n$", text(t, s))
				h.from = h.to
			}
		}
	}
}

// Whatever happens after the first look, a process that was alive then counts as one.
func TestScrapeMissesNoSeriesOfAProcessThatDies(t *testing.T) {
	dir := newDir(t)
	h := handover{family: counterFamily("c_total", "l")}
	deletes, shows := startLocal(t, dir, 0), startChild(t, dir, 1)
	deletes.do(h.write(2), action{Do: "delete", Family: h.family, Values: []string{"x"}},
		action{Do: "add", Family: h.family, Values: []string{"y"}, V: 1}, ready)
	shows.do(h.write(5), ready)
	s := openStore(t, dir, Options{})
	require.Equal(t, "c_total{l=\"x\"} 7\nc_total{l=\"y\"} 1\n", text(t, s))
	calls := lookOn(s, 1, func() {
		startLocal(t, dir, 2).do(h.write(1), ready)
		shows.killSeen(dir)
		deletes.do(action{Do: "delete", Family: h.family, Values: []string{"y"}}) // so that all is looked at again
	})
	assert.Equal(t, "c_total{l=\"x\"} 7\nc_total{l=\"y\"} 1\n", text(t, s))
	require.GreaterOrEqual(t, *calls, 1)
	assert.Equal(t, "c_total{l=\"x\"} 8\n", text(t, s))
}

// A process of an earlier release, and one that deletes very many, uses the record of a gauge again at once.
func TestScrapeMissesNoGaugeWhoseRecordIsUsedAgain(t *testing.T) {
	dir := newDir(t)
	from := startLocal(t, dir, 0)
	h := handover{family: gaugeFamily("g", shmstore.Sum, "l"), from: from}
	from.do(h.write(1))
	s := openStore(t, dir, Options{})
	const want = "g{l=\"x\"} 1\n"
	require.Equal(t, want, text(t, s))
	calls := lookOn(s, 1, func() {
		h.to = startLocal(t, dir, 1)
		h.do()
		for range 2000 {
			from.do(action{Do: "set", Family: h.family, Values: []string{"other"}, V: 1},
				action{Do: "delete", Family: h.family, Values: []string{"other"}}, action{Do: "release"})
		}
	})
	assert.Equal(t, want, text(t, s))
	require.GreaterOrEqual(t, *calls, 1)
}

// unlistable is a directory that cannot be listed.
type unlistable struct{ view }

func (unlistable) Update() error { return errors.New("no") }

// While one directory cannot be listed, and a process there has deleted a series, all that was last known stays: what
// other directories had, too.
func TestUnlistedDirectoryCostsNoOther(t *testing.T) {
	dir, other := newDir(t), newDir(t)
	gauge := gaugeFamily("g", shmstore.Sum, "l")
	x := []string{"x"}
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("c_total", "l"), Values: x, V: 1}, action{Do: "set", Family: gauge, Values: x, V: 1}, ready)
	makeD := func() *local {
		q := startLocal(t, other, 0)
		q.do(action{Do: "add", Family: counterFamily("d_total", "l"), Values: x, V: 1}, ready)
		return q
	}
	q := makeD()
	s := openStore(t, dir, Options{})
	d, err := shmstore.OpenDir(other, shmstore.DirOptions{})
	require.NoError(t, err)
	defer d.Close()
	s.sources = append(s.sources, &source{view: d.View(), path: other})
	const want = "c_total{l=\"x\"} 1\nd_total{l=\"x\"} 1\n"
	require.Equal(t, want+"g{l=\"x\"} 1\n", text(t, s))

	own := s.sources[0].view
	s.sources[0].view = unlistable{own}
	p.do(action{Do: "delete", Family: gauge, Values: x})
	require.NoError(t, q.w.Abandon())
	makeD()
	for range 2 {
		assert.Equal(t, want+"g{l=\"x\"} 1\n", text(t, s))
	}
	s.sources[0].view = own
	assert.Equal(t, want, text(t, s))
}
