package aggregate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

func TestNewestReadyDefinitionRules(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	def := func(help string) shmstore.Family {
		f := counterFamily("c_total")
		f.Help, f.Unit = help, help+"s"
		return f
	}
	rule := func() string {
		f := gatherAll(t, s)["c_total"]
		return f.GetHelp() + " " + f.GetUnit() + " " + fmt.Sprint(f.Metric[0].Counter.GetValue())
	}
	first, second, third := startLocal(t, dir, 0), startLocal(t, dir, 1), startLocal(t, dir, 2)
	first.do(action{Do: "add", Family: def("first"), V: 1})
	assert.Equal(t, "first firsts 1", rule())
	second.do(action{Do: "add", Family: def("second"), V: 1})
	assert.Equal(t, "second seconds 2", rule(), "none is ready: the newest")
	first.do(ready)
	assert.Equal(t, "first firsts 2", rule(), "one that is ready before one that is not")
	third.do(action{Do: "add", Family: def("third"), V: 1}, ready)
	assert.Equal(t, "third thirds 3", rule())
	second.do(ready)
	assert.Equal(t, "second seconds 3", rule())
	assert.NotContains(t, gatherAll(t, s), "onescrape_merge_conflicts_total")
}

func TestHistogramIsCarriedOver(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	older, newer := startLocal(t, dir, 0), startLocal(t, dir, 1)
	observe := func(p *local, bounds ...float64) {
		for _, v := range []float64{.1, .6, 1, 1.5, 7, 100} {
			p.do(action{Do: "observe", Family: histogramFamily("h", bounds), V: v})
		}
	}
	observe(older, .5, 1, 5)
	older.do(ready)
	assert.Equal(t, `h_bucket{le="0.5"} 1
h_bucket{le="1"} 3
h_bucket{le="5"} 4
h_bucket{le="+Inf"} 6
h_sum 110.2
h_count 6
`, text(t, s))
	observe(newer, 1, 2, 10)
	newer.do(ready)
	// Of the older one .5 and 1 go to 1, 5 to 10, +Inf to +Inf.
	assert.Equal(t, `h_bucket{le="1"} 6
h_bucket{le="2"} 7
h_bucket{le="10"} 9
h_bucket{le="+Inf"} 12
h_sum 220.4
h_count 12
`, text(t, s))
	again := startLocal(t, dir, 2)
	again.do(action{Do: "make", Family: histogramFamily("h", []float64{.5, 1, 5})}, ready)
	assert.Equal(t, `h_bucket{le="0.5"} 1
h_bucket{le="1"} 6
h_bucket{le="5"} 8
h_bucket{le="+Inf"} 12
h_sum 220.4
h_count 12
`, text(t, s), "after a rollback nothing is lost")
}

func TestCarryOver(t *testing.T) {
	tests := []struct {
		old, new []float64
		want     []int32
	}{
		{[]float64{1, 2}, []float64{1, 2}, nil},
		{nil, nil, nil},
		{nil, []float64{1}, []int32{1}},
		{[]float64{1, 2}, nil, []int32{0, 0, 0}},
		{[]float64{1, 2}, []float64{1, 2, 3}, []int32{0, 1, 3}},
		{[]float64{1, 2}, []float64{1, 3}, []int32{0, 1, 2}},
		{[]float64{-1, 0, 9}, []float64{-2, .5}, []int32{1, 1, 2, 2}},
	}
	for _, test := range tests {
		assert.Equal(t, test.want, carryOver(test.old, test.new), "%v to %v", test.old, test.new)
	}
}

func TestOtherTypeIsLeftOut(t *testing.T) {
	dir := newDir(t)
	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger()})
	older, newer := startLocal(t, dir, 0), startLocal(t, dir, 1)
	older.do(action{Do: "add", Family: counterFamily("x"), V: 5}, ready)
	newer.do(action{Do: "set", Family: gaugeFamily("x", shmstore.Sum), V: 7}, action{Do: "add",
		Family: counterFamily("y_total"), V: 1})
	assert.Equal(t, "x 5\ny_total 1\n", text(t, s))
	for range 3 {
		assert.Equal(t, "onescrape_merge_conflicts_total{family=\"x\"} 1\n", text(t, s,
			"onescrape_merge_conflicts_total"))
	}
	newer.do(ready)
	assert.Equal(t, "x 7\ny_total 1\n", text(t, s))
	assert.Equal(t, "onescrape_merge_conflicts_total{family=\"x\"} 2\n", text(t, s, "onescrape_merge_conflicts_total"))
	older.do(action{Do: "add", Family: counterFamily("x"), V: 1})
	startLocal(t, dir, 2).do(action{Do: "add", Family: counterFamily("x"), V: 1}, ready)
	assert.Equal(t, "x 7\ny_total 1\n", text(t, s), "it is there again after a rollback")
	assert.Len(t, log.about("another definition rules"), 2, "that the gauge is left out is known")
	assert.Equal(t, "onescrape_merge_conflicts_total{family=\"x\"} 2\n", text(t, s, "onescrape_merge_conflicts_total"))
}

// A metric that has changed its type conflicts with what is archived of it for as long as that is kept. However often
// workers, or the scraper, start anew meanwhile, that is one conflict.
func TestConflictIsCountedOnceNotAtEachRestart(t *testing.T) {
	dir := newDir(t)
	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger()})
	fold := func() {
		t.Helper()
		_, err := s.Fold(t.Context())
		require.NoError(t, err)
	}
	old := startChild(t, dir, 0)
	old.do(action{Do: "add", Family: counterFamily("x"), V: 5}, ready)
	require.Equal(t, "x 5\n", text(t, s))
	old.killSeen(dir)
	fold()
	for range 4 {
		// The successor starts after its predecessor has gone; until it has the metric, the archive's definition rules.
		p := startChild(t, dir, 0)
		p.do(action{Do: "add", Family: counterFamily("other_total"), V: 1}, ready)
		text(t, s)
		p.do(action{Do: "set", Family: gaugeFamily("x", shmstore.LiveSum), V: 7})
		require.Contains(t, text(t, s), "x 7\n")
		p.killSeen(dir)
		text(t, s)
		fold()
		text(t, s)
		counted := s.Totals()
		require.NoError(t, s.Close())
		s = openStore(t, dir, Options{Logger: log.logger(), InitialTotals: counted})
	}
	total := 0
	for _, m := range errorLine.FindAllStringSubmatch(strings.ReplaceAll(text(t, s, "onescrape_merge_conflicts_total"), "family=", "reason="), -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		total += n
	}
	assert.Equal(t, 1, total)
	assert.Len(t, log.about("another definition rules"), 1)
}

// A mode is not a type: values of all are merged as the newest says.
func TestOtherModeIsMerged(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	modes := []struct {
		mode shmstore.GaugeMode
		want string
	}{
		{shmstore.Max, "g 3\n"},
		{shmstore.Sum, "g 7\n"},
		{shmstore.MostRecent, "g 4\n"},
		{shmstore.All, "g{worker=\"0\"} 3\ng{worker=\"1\"} 0\ng{worker=\"2\"} 4\ng{worker=\"3\"} 0\n"},
		{shmstore.Min, "g 3\n"},
	}
	for i, m := range modes {
		p := startLocal(t, dir, i)
		switch i {
		case 0:
			p.do(action{Do: "set", Family: gaugeFamily("g", m.mode), V: 3})
		case 2:
			p.do(action{Do: "set", Family: gaugeFamily("g", m.mode), V: 4})
		default:
			p.do(action{Do: "make", Family: gaugeFamily("g", m.mode)})
		}
		p.do(ready)
		want := m.want
		if i == 1 {
			want = "g 3\n"
		}
		assert.Equal(t, want, text(t, s), m.mode)
	}
}

func TestOtherLabels(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	startLocal(t, dir, 0).do(
		action{Do: "add", Family: counterFamily("c_total", "a"), Values: []string{"x"}, V: 1},
		action{Do: "add", Family: counterFamily("c_total", "a"), Values: []string{"y"}, V: 2})
	assert.Equal(t, "c_total{a=\"x\"} 1\nc_total{a=\"y\"} 2\n", text(t, s))
	startLocal(t, dir, 1).do(
		action{Do: "add", Family: counterFamily("c_total", "a", "b"), Values: []string{"x", "z"}, V: 4},
		action{Do: "add", Family: counterFamily("c_total", "a", "b"), Values: []string{"x", ""}, V: 8})
	// To Prometheus an empty label is none, so {a="x",b=""} is the same series as {a="x"}.
	want := "c_total{a=\"y\"} 2\nc_total{a=\"x\",b=\"\"} 9\nc_total{a=\"x\",b=\"z\"} 4\n"
	assert.Equal(t, want, text(t, s))
	assert.Equal(t, want, text(t, openStore(t, dir, Options{})), "whoever looks, whenever")
}

func TestNamesThatCollide(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	older, newer := startLocal(t, dir, 0), startLocal(t, dir, 1)
	older.do(
		action{Do: "add", Family: counterFamily("a_count"), V: 1},
		action{Do: "add", Family: counterFamily("b_bucket"), V: 2},
		action{Do: "add", Family: counterFamily("s_bucket"), V: 3},
		action{Do: "observe", Family: summaryFamily("q"), V: 1},
		action{Do: "add", Family: counterFamily("onescrape_store_bytes"), V: 4}, ready)
	newer.do(
		action{Do: "observe", Family: histogramFamily("a", nil), V: 1},
		action{Do: "observe", Family: histogramFamily("b", nil), V: 1},
		action{Do: "observe", Family: summaryFamily("s"), V: 1},
		action{Do: "add", Family: counterFamily("q_sum"), V: 5})
	assert.Equal(t, "a_count 1\nb_bucket 2\nq_sum 1\nq_count 1\ns_sum 1\ns_count 1\ns_bucket 3\n", text(t, s))
	newer.do(ready)
	assert.Equal(t, "a_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\nb_bucket{le=\"+Inf\"} 1\nb_sum 1\nb_count 1\n"+
		"q_sum 5\ns_sum 1\ns_count 1\ns_bucket 3\n", text(t, s))
	conflicts := map[string]float64{}
	for _, m := range gatherAll(t, s)["onescrape_merge_conflicts_total"].Metric {
		conflicts[m.Label[0].GetValue()] = m.Counter.GetValue()
	}
	assert.Equal(t, map[string]float64{"a": 1, "b": 1, "q_sum": 1, "a_count": 1, "b_bucket": 1, "q": 1,
		"onescrape_store_bytes": 1},
		conflicts)
}

func TestDefinitionsThatCannotBe(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	p.do(action{Do: "add", Family: counterFamily("ok_total", "l"), Values: []string{"fine"}, V: 1})
	errors := func() string { return text(t, s, "onescrape_store_errors_total") }
	none := errors()
	for _, reason := range reasons {
		assert.Contains(t, none, fmt.Sprintf("{reason=%q} 0\n", reason))
	}
	p.do(
		action{Do: "add", Family: counterFamily("c", "__name__"), Values: []string{"d"}, V: 1},
		action{Do: "observe", Family: histogramFamily("e", nil, "le"), Values: []string{"1"}, V: 1},
		action{Do: "observe", Family: summaryFamily("f", "quantile"), Values: []string{"1"}, V: 1},
		action{Do: "add", Family: counterFamily("last_total", "quantile"), Values: []string{"fine"}, V: 1})
	for range 3 {
		assert.Equal(t, "last_total{quantile=\"fine\"} 1\nok_total{l=\"fine\"} 1\n", text(t, s))
		users(t, s)
		assert.Contains(t, errors(), "{reason=\"definition\"} 1\n")
	}
}

func TestDeleting(t *testing.T) {
	def := counterFamily("c_total", "l")
	add := func(v float64) action { return action{Do: "add", Family: def, Values: []string{"x"}, V: v} }
	del := action{Do: "delete", Family: def, Values: []string{"x"}}
	t.Run("as long as one living process shows it", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		a, b := startChild(t, dir, 0), startChild(t, dir, 1)
		a.do(add(1))
		b.do(add(2))
		assert.Equal(t, "c_total{l=\"x\"} 3\n", text(t, s))
		a.do(del)
		assert.Equal(t, "c_total{l=\"x\"} 3\n", text(t, s), "it hides and subtracts nothing")
		a.do(add(4))
		assert.Equal(t, "c_total{l=\"x\"} 7\n", text(t, s), "created anew it goes on")
		a.do(del)
		a.killSeen(dir)
		assert.Equal(t, "c_total{l=\"x\"} 7\n", text(t, s))
		b.do(del)
		assert.Empty(t, text(t, s), "gone as a whole, with the part of the dead")
	})
	t.Run("parts of the dead", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		a, b := startChild(t, dir, 0), startChild(t, dir, 1)
		a.do(add(1))
		b.do(add(2))
		b.do(del)
		b.killSeen(dir)
		assert.Equal(t, "c_total{l=\"x\"} 3\n", text(t, s))
		a.killSeen(dir)
		assert.Equal(t, "c_total{l=\"x\"} 3\n", text(t, s), "who showed it died with it")
		startLocal(t, dir, 2).do(action{Do: "add", Family: counterFamily("other_total"), V: 1})
		assert.Equal(t, "c_total{l=\"x\"} 3\nother_total 1\n", text(t, s),
			"processes that do not have it do not decide")
	})
	t.Run("all had deleted it", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		a := startChild(t, dir, 0)
		a.do(add(1), del)
		assert.Empty(t, text(t, s))
		a.killSeen(dir)
		assert.Empty(t, text(t, s))
	})
	t.Run("gauge", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
		g := gaugeFamily("g", shmstore.Sum)
		a.do(action{Do: "set", Family: g, V: 1})
		b.do(action{Do: "set", Family: g, V: 2})
		a.do(action{Do: "delete", Family: g})
		assert.Equal(t, "g 2\n", text(t, s), "its part goes at once")
		a.do(action{Do: "release"}, action{Do: "set", Family: g, V: 8})
		assert.Equal(t, "g 10\n", text(t, s))
		a.do(action{Do: "delete", Family: g})
		b.do(action{Do: "delete", Family: g})
		assert.Empty(t, text(t, s))
	})
	t.Run("cells that become another series'", func(t *testing.T) {
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		p := startLocal(t, dir, 0)
		for i := range 50 {
			g := action{Do: "set", Family: gaugeFamily("g", shmstore.Sum, "n"), Values: []string{fmt.Sprint(i)},
				V: float64(i)}
			p.do(g)
			assert.Equal(t, fmt.Sprintf("g{n=\"%d\"} %d\n", i, i), text(t, s))
			g.Do = "delete"
			p.do(g, action{Do: "release"})
		}
		require.Less(t, len(slices.Concat(s.families["g"].rows)), 3, "rows are used again")
	})
}
