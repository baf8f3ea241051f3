package aggregate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// A value's created time stays as long as it goes on, whoever comes, goes and is folded.
func TestCreatedStaysWhileTheValueGoesOn(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	defs := []shmstore.Family{counterFamily("a_total"), histogramFamily("b", []float64{1}), summaryFamily("c")}
	actions := func(do string) (all []action) {
		for _, def := range defs {
			all = append(all, action{Do: do, Family: def})
		}
		return all
	}
	leave(t, dir, 0, actions("make")...)
	want := created(gatherAll(t, s))
	require.Len(t, want, 3)
	same := func(what string) {
		t.Helper()
		assert.Equal(t, want, created(gatherAll(t, s)), what)
		assert.Equal(t, want, created(gatherAll(t, openStore(t, dir, Options{}))), what)
	}
	a := startLocal(t, dir, 0)
	a.do(actions("make")...)
	same("a newer process")
	mustFold(t, s)
	same("folded")
	b := startLocal(t, dir, 1)
	b.do(ready)
	b.do(action{Do: "observe", Family: histogramFamily("b", []float64{1, 2}), V: 1})
	same("with other bounds")
	a.do(actions("delete")...)
	a.do(action{Do: "release"})
	a.do(actions("make")...)
	same("deleted and made again before a fold")
	leave(t, dir, 2, actions("make")...)
	mustFold(t, s)
	same("folded again")
	text := get(s.Handler(HandlerOptions{CreatedLines: true}), "name[]=a_total", "Accept",
		"application/openmetrics-text;version=1.0.0").Body.String()
	assert.Contains(t, text, "\na_created 1")
}

// A value that starts anew gets another created time, even if it never was out of sight: one process makes the series
// while another's deleted one, which was taken, still was its source.
func TestCreatedChangesWhenTheValueStartsAnew(t *testing.T) {
	for _, slots := range [][2]int{{0, 1}, {1, 0}} { // files are read in the order of their names, which are random
		dir := newDir(t)
		s := openStore(t, dir, Options{})
		c := counterFamily("c_total")
		old, young := startLocal(t, dir, slots[0]), startLocal(t, dir, slots[1])
		old.do(action{Do: "add", Family: c, V: 5})
		before := created(gatherAll(t, s))["c_total"]
		old.do(action{Do: "delete", Family: c}, action{Do: "release"})
		mustFold(t, openStore(t, dir, Options{})) // s has not looked since
		young.do(action{Do: "add", Family: c, V: 1})
		families := gatherAll(t, s)
		assert.Equal(t, 1.0, families["c_total"].Metric[0].Counter.GetValue())
		assert.Equal(t, young.series[c.Key()+"\xff"].Created.UnixNano(), created(families)["c_total"])
		assert.NotEqual(t, before, created(families)["c_total"])
	}
}

func TestCreatedOfASeriesThatMovedIn(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	c := counterFamily("c_total")
	id, err := p.w.AddFamily(c)
	require.NoError(t, err)
	began := time.Unix(1_000_000, 5)
	_, err = p.w.AddSeriesSince(id, nil, began)
	require.NoError(t, err)
	assert.Equal(t, began.UnixNano(), created(gatherAll(t, s))["c_total"])
}
