package aggregate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/quantile"
)

// life is what a process's file was at several moments, each of them a whole file.
type life struct {
	name    string
	moments [][]byte
}

// livesIn has a few processes do all kinds of things in a store, and takes their files away.
func livesIn(t testing.TB, dir string) (lives []life) {
	window := summaryFamily("s", "l")
	window.Window = &quantile.Window{Objectives: []float64{.5}, Age: 1 << 40, Slices: 2, Resolution: 4}
	families := []shmstore.Family{counterFamily("c_total", "l"), gaugeFamily("all", shmstore.All, "l"),
		histogramFamily("h", []float64{1, 2}, "l"), nativeFamily("n", 2, 0, "l"), window,
		gaugeFamily("recent", shmstore.MostRecent, "l"), gaugeFamily("avg", shmstore.Avg, "l")}
	for slot := range 3 {
		p := startLocal(t, dir, slot)
		path := filepath.Join(dir, p.w.Name())
		l := life{name: p.w.Name()}
		keep := func() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			l.moments = append(l.moments, content)
		}
		keep()
		for step := range 4 {
			for i, f := range families {
				if slot == 1 && i == 0 {
					f = histogramFamily("c_total", []float64{3}, "l") // conflicts with the others'
				}
				values := []string{oddTexts[1+(step+i)%3]}
				do := map[shmstore.Type]string{shmstore.CounterType: "add", shmstore.GaugeType: "set"}[f.Type]
				if do == "" {
					do = "observe"
				}
				p.do(action{Do: do, Family: f, Values: values, V: float64(step) + .3, At: uint64(step + 1)})
				if f.Type == shmstore.CounterType {
					p.do(action{Do: "exemplar", Family: f, Values: values, V: 1, At: uint64(step + 1), Trace: "t"})
				}
				if (step+i+slot)%3 == 0 {
					p.do(action{Do: "delete", Family: f, Values: values})
				}
			}
			if step == 1 {
				p.do(ready)
			}
			keep()
			if step == 2 {
				p.do(action{Do: "release"})
				keep()
			}
		}
		require.NoError(t, os.Remove(path))
		lives = append(lives, l)
	}
	return lives
}

// FuzzPlan changes the files of a store in every way that files can change, and looks at it after each step: files come,
// grow, go, are folded, damaged and cut short. Nothing may go wrong; and as long as all files are what their processes
// made of them, a store that was open all the time is one that was opened just now.
func FuzzPlan(f *testing.F) {
	for seed := range byte(8) {
		var b []byte
		for i := range byte(40) {
			b = append(b, seed*i, i, seed+i)
		}
		f.Add(b)
	}
	dir := newDir(f)
	lives := livesIn(f, dir)
	always, err := os.ReadDir(dir)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			if !slices.ContainsFunc(always, func(o os.DirEntry) bool { return o.Name() == e.Name() }) {
				require.NoError(t, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
		open := func() *Store {
			s := openStore(t, dir, Options{})
			s.now = func() uint64 { return 10 }
			return s
		}
		s := open()
		d := &dice{b}
		moment, damaged := map[string]int{}, map[string]bool{}
		for range min(len(b), 6) {
			l := &lives[d.n(len(lives))]
			path := filepath.Join(dir, l.name)
			_, present := moment[l.name]
			put := func(k int) {
				file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
				require.NoError(t, err)
				_, err = file.WriteAt(l.moments[k], 0)
				require.NoError(t, err)
				require.NoError(t, file.Close())
				moment[l.name] = k
			}
			remove := func() {
				require.NoError(t, os.RemoveAll(path))
				delete(moment, l.name)
				delete(damaged, l.name)
			}
			switch what := d.n(10); {
			case what < 5 && !damaged[l.name]:
				// Forward only: a process takes nothing back.
				put(max(moment[l.name], d.n(len(l.moments))))
			case what == 5:
				remove()
			case what == 6 && present:
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				require.NoError(t, err)
				var word [8]byte
				copy(word[:], d.b)
				_, err = file.WriteAt(word[:], int64(d.word()%uint64(len(l.moments[0]))))
				require.NoError(t, err)
				require.NoError(t, file.Close())
				damaged[l.name] = true
			case what == 7 && present:
				require.NoError(t, os.Truncate(path, int64(d.word()%uint64(len(l.moments[0])))))
				damaged[l.name] = true
			case what == 8 && len(damaged) == 0:
				mustFold(t, s)
				for name := range moment {
					delete(moment, name)
				}
			case damaged[l.name]:
				remove()
				require.NoError(t, s.fresh())
			}
			got := text(t, s)
			if len(damaged) == 0 {
				again := open()
				require.Equal(t, text(t, again), got)
				require.NoError(t, again.Close())
			}
		}
		require.NoError(t, s.fresh())
		requireText(t, &s.plan, s.selfMetrics.families(), s.collect(namesAmong(nil)))
		if len(damaged) == 0 {
			require.Equal(t, users(t, open()), users(t, s))
		}
	})
}
