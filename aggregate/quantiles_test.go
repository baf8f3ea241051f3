package aggregate

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore"
)

// linesFamily are the quantile lines of a summary; labels are without the quantile's, before which they come.
func linesFamily(name string, labels ...string) shmstore.Family {
	f := gaugeFamily(name, shmstore.LiveMax, append(labels, shmstore.QuantileLabel)...)
	f.QuantileLines = true
	return f
}

func TestQuantileLines(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	sum, lines := summaryFamily("s", "a"), linesFamily("s", "a")
	line := func(q string, v float64) action {
		return action{Do: "set", Family: lines, Values: []string{"x", q}, V: v}
	}
	alive, dying := startLocal(t, dir, 0), startChild(t, dir, 1)
	alive.do(action{Do: "observe", Family: sum, Values: []string{"x"}, V: 2},
		action{Do: "observe", Family: sum, Values: []string{"y"}, V: 2},
		line("0.5", 3), line("1", math.NaN()), line("0.99", 4), line("no number", 5), line("2", 6), line("0.990", 4))
	assert.Equal(t, "s{a=\"x\",quantile=\"0.5\"} 3\ns{a=\"x\",quantile=\"0.99\"} 4\ns{a=\"x\",quantile=\"1\"} NaN\n"+
		"s_sum{a=\"x\"} 2\ns_count{a=\"x\"} 1\ns_sum{a=\"y\"} 2\ns_count{a=\"y\"} 1\n", text(t, s))
	dying.do(action{Do: "observe", Family: sum, Values: []string{"x"}, V: 1}, line("0.5", 1), line("0.99", 9), line("1", 8))
	assert.Equal(t, "s{a=\"x\",quantile=\"0.5\"} 3\ns{a=\"x\",quantile=\"0.99\"} 9\ns{a=\"x\",quantile=\"1\"} 8\n"+
		"s_sum{a=\"x\"} 3\ns_count{a=\"x\"} 2\ns_sum{a=\"y\"} 2\ns_count{a=\"y\"} 1\n", text(t, s))

	// The quantiles of the dead are those of a window that is over; what they counted stays.
	dying.killSeen(dir)
	want := "s{a=\"x\",quantile=\"0.5\"} 3\ns{a=\"x\",quantile=\"0.99\"} 4\ns{a=\"x\",quantile=\"1\"} NaN\n" +
		"s_sum{a=\"x\"} 3\ns_count{a=\"x\"} 2\ns_sum{a=\"y\"} 2\ns_count{a=\"y\"} 1\n"
	assert.Equal(t, want, text(t, s))
	mustFold(t, s)
	assert.Equal(t, want, text(t, s))
	assert.Equal(t, want, text(t, openStore(t, dir, Options{})))

	alive.do(action{Do: "delete", Family: lines, Values: []string{"x", "0.5"}},
		action{Do: "delete", Family: lines, Values: []string{"x", "1"}})
	assert.Equal(t, "s{a=\"x\",quantile=\"0.99\"} 4\ns_sum{a=\"x\"} 3\ns_count{a=\"x\"} 2\ns_sum{a=\"y\"} 2\ns_count{a=\"y\"} 1\n",
		text(t, s))
}

// Lines belong to a summary: without one, or beside a family of the same name that is something else, they are not there.
func TestQuantileLinesWithoutSummary(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	lines := linesFamily("s")
	p.do(action{Do: "set", Family: lines, Values: []string{"0.5"}, V: 1})
	assert.Empty(t, text(t, s))
	p.do(action{Do: "set", Family: gaugeFamily("s", shmstore.LiveMax, shmstore.QuantileLabel), Values: []string{"0.5"}, V: 7})
	assert.Equal(t, "s{quantile=\"0.5\"} 7\n", text(t, s))
	assert.NotContains(t, gatherAll(t, s), nameConflicts)
}
