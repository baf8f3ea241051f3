package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// traces returns the exemplars of a family's first metric, by bucket; a counter's by "".
func traces(t testing.TB, g prometheus.Gatherer, name string) map[string]string {
	t.Helper()
	all := map[string]string{}
	keep := func(bucket string, e *dto.Exemplar) {
		if e == nil {
			return
		}
		words := []string{fmt.Sprint(e.GetValue(), "@", e.Timestamp.AsTime().UnixNano())}
		for _, l := range e.Label {
			words = append(words, l.GetName()+"="+l.GetValue())
		}
		all[bucket] = strings.Join(words, " ")
	}
	m := gatherAll(t, g)[name].Metric[0]
	keep("", m.GetCounter().GetExemplar())
	for _, b := range m.GetHistogram().GetBucket() {
		keep(fmt.Sprint(b.GetUpperBound()), b.Exemplar)
	}
	return all
}

func exemplarOf(f shmstore.Family, v float64, at uint64, trace string) action {
	return action{Do: "exemplar", Family: f, V: v, At: at, Trace: trace}
}

func TestNewestExemplarOfAllProcesses(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	c, h := counterFamily("c_total"), histogramFamily("h", []float64{1, 2})
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	a.do(action{Do: "add", Family: c, V: 1}, action{Do: "observe", Family: h, V: 5})
	b.do(action{Do: "add", Family: c, V: 1})
	assert.Empty(t, traces(t, s, "c_total"))
	a.do(exemplarOf(c, 1, 10, "a"))
	assert.Equal(t, map[string]string{"": "1@10 trace_id=a"}, traces(t, s, "c_total"))
	b.do(exemplarOf(c, 2, 9, "b"))
	assert.Equal(t, map[string]string{"": "1@10 trace_id=a"}, traces(t, s, "c_total"))
	b.do(exemplarOf(c, 2, 11, "b"))
	assert.Equal(t, map[string]string{"": "2@11 trace_id=b"}, traces(t, s, "c_total"))

	a.do(exemplarOf(h, 1, 5, "a1"), exemplarOf(h, 5, 5, "a5"))
	b.do(exemplarOf(h, 0.5, 6, "b0"), exemplarOf(h, 4, 4, "b4"))
	want := map[string]string{"1": "0.5@6 trace_id=b0", "+Inf": "5@5 trace_id=a5"}
	assert.Equal(t, want, traces(t, s, "h"))
	m := gatherAll(t, s)["h"].Metric[0].Histogram
	assert.Len(t, m.Bucket, 3, "the bucket up to +Inf is there for its exemplar's sake")
	assert.Equal(t, m.GetSampleCount(), m.Bucket[2].GetCumulativeCount())

	// What is exposed as text comes back.
	body := get(s.Handler(HandlerOptions{}), "name[]=h", "Accept", "application/openmetrics-text;version=1.0.0").Body.String()
	assert.Contains(t, body, `h_bucket{le="1.0"} 0 # {trace_id="b0"} 0.5 6e-09`)
	assert.Contains(t, body, `h_bucket{le="+Inf"} 1 # {trace_id="a5"} 5.0 5e-09`)
	assert.NotContains(t, text(t, s), "trace_id", "the plain text format has none")

	// A deleted series has none when it is made again.
	for _, p := range []doer{a, b} {
		p.do(action{Do: "delete", Family: c}, action{Do: "release"})
	}
	mustFold(t, s)
	a.do(action{Do: "add", Family: c, V: 1})
	assert.Empty(t, traces(t, s, "c_total"))
	assert.Equal(t, want, traces(t, s, "h"))
}

func TestExemplarsOfTheDead(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	c, h := counterFamily("c_total"), histogramFamily("h", []float64{1, 2})
	leave(t, dir, 0, exemplarOf(c, 1, 10, "dead"), exemplarOf(h, 1.5, 20, "dead"))
	before := traces(t, s, "h")
	require.Equal(t, map[string]string{"2": "1.5@20 trace_id=dead"}, before)
	for range 2 {
		mustFold(t, s)
		assert.Equal(t, before, traces(t, s, "h"))
		assert.Equal(t, map[string]string{"": "1@10 trace_id=dead"}, traces(t, openStore(t, dir, Options{}), "c_total"))
		leave(t, dir, 0, exemplarOf(h, 1.7, 19, "older"))
	}
	mustFold(t, s)
	alive := startLocal(t, dir, 0)
	alive.do(exemplarOf(c, 3, 11, "alive"))
	assert.Equal(t, map[string]string{"": "3@11 trace_id=alive"}, traces(t, s, "c_total"))

	// Under other bounds each is in the bucket that its value is in.
	alive.do(ready, exemplarOf(histogramFamily("h", []float64{1.2, 1.6, 3}), 2.5, 5, "new"))
	assert.Equal(t, map[string]string{"1.6": "1.5@20 trace_id=dead", "3": "2.5@5 trace_id=new"}, traces(t, s, "h"))
}

func TestOddExemplars(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	p := startLocal(t, dir, 0)
	c, h := counterFamily("c_total"), histogramFamily("h", []float64{1})
	p.do(action{Do: "add", Family: c, V: 1}, exemplarOf(c, math.Inf(-1), math.MaxUint64, "long ago"),
		exemplarOf(h, math.NaN(), math.MaxInt64, "far ahead"))
	// Labels that no writer stores: they are left out, and the rest is not.
	for i, labels := range [][]byte{{1}, {1, 'a', 1, 0xff}, shmstore.AppendExemplarLabel(nil, "__name__", "x")} {
		bad := counterFamily(fmt.Sprint("bad", i))
		p.do(action{Do: "add", Family: bad, V: 2})
		series, err := p.get(action{Family: bad})
		require.NoError(t, err)
		_, err = p.w.StoreExemplar(series, 0, &shmstore.Exemplar{Labels: labels})
		require.NoError(t, err)
		assert.Empty(t, traces(t, s, bad.Name))
		assert.Equal(t, 2.0, gatherAll(t, s)[bad.Name].Metric[0].Counter.GetValue())
	}
	assert.Contains(t, traces(t, s, "h")["+Inf"], "NaN@")
	for _, accept := range []string{"application/openmetrics-text;version=1.0.0",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
		w := get(s.Handler(HandlerOptions{}), "", "Accept", accept)
		assert.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), "far ahead")
	}
	assert.Empty(t, errorCounts(t, s)["value"])
}

// TestExemplarsAreMadeOnce holds scrapes to sharing what did not change.
func TestExemplarsAreMadeOnce(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	c := counterFamily("c_total")
	a, b := startLocal(t, dir, 0), startLocal(t, dir, 1)
	a.do(exemplarOf(c, 1, 10, "a"))
	b.do(exemplarOf(c, 1, 9, "b"))
	exemplar := func() *dto.Exemplar { return gatherAll(t, s)["c_total"].Metric[0].Counter.Exemplar }
	first := exemplar()
	assert.Same(t, first, exemplar())
	b.do(exemplarOf(c, 1, 11, "b"))
	assert.NotSame(t, first, exemplar())
	assert.Equal(t, time.Unix(0, 10).UTC(), first.Timestamp.AsTime())
}

// TestExemplarsFollowTheModel keeps exemplars at random times in random processes, that live and that die, and folds
// now and then: what is shown is the newest of each bucket.
func TestExemplarsFollowTheModel(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	families := []shmstore.Family{counterFamily("c_total"), histogramFamily("h", []float64{-1, 0, 3})}
	living := []*local{startLocal(t, dir, 0), startLocal(t, dir, 1), startLocal(t, dir, 2)}
	want := map[string]map[string]string{"c_total": {}, "h": {}}
	newest := map[string]uint64{}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		f := families[random.IntN(2)]
		v, at := math.Round(8*random.NormFloat64()), uint64(n+1)
		trace := strings.Repeat("é", random.IntN(100))
		do := []action{{Do: "make", Family: f}, exemplarOf(f, v, at, trace)}
		if n%20 == 0 {
			at = uint64(random.IntN(n + 1)) // its clock may be behind
			do[1].At = at
			leave(t, dir, 0, do...)
		} else {
			living[random.IntN(3)].do(do...)
		}
		if random.IntN(30) == 0 {
			mustFold(t, s)
		}
		bucket := ""
		if f.Type == shmstore.HistogramType {
			bucket = "+Inf"
			for _, bound := range slices.Backward(f.Bounds) {
				if v <= bound {
					bucket = fmt.Sprint(bound)
				}
			}
		}
		if at > newest[f.Name+bucket] {
			newest[f.Name+bucket] = at
			want[f.Name][bucket] = fmt.Sprint(v, "@", at) + " trace_id=" + trace
		}
		for name, all := range want {
			if len(all) > 0 {
				require.Equal(t, all, traces(t, s, name), n)
			}
		}
	}
}

// A histogram with native buckets alone keeps exemplars of many magnitudes, over all processes and folds.
func TestExemplarsOfNativeBuckets(t *testing.T) {
	dir := newDir(t)
	s := openStore(t, dir, Options{})
	h := histogramFamily("h", nil)
	h.Native = &shmstore.Native{Schema: 3, Buckets: 100, ZeroThreshold: 1e-9}
	values := func() (all []string) {
		m := gatherAll(t, s)["h"].Metric[0].Histogram
		for _, e := range m.Exemplars {
			all = append(all, fmt.Sprint(e.GetValue(), e.Label[0].GetValue()))
		}
		require.Len(t, m.Bucket, 1)
		all = append(all, "+Inf "+m.Bucket[0].Exemplar.Label[0].GetValue())
		return all
	}
	leave(t, dir, 0, exemplarOf(h, 1, 1, "dead"), exemplarOf(h, 3, 9, "dead"), exemplarOf(h, -100, 3, "dead"))
	want := []string{"-100dead", "1dead", "3dead", "+Inf dead"}
	assert.Equal(t, want, values())
	mustFold(t, s)
	assert.Equal(t, want, values())
	p := startLocal(t, dir, 0)
	p.do(exemplarOf(h, 1.5, 10, "alive"), exemplarOf(h, 2.5, 8, "older"), exemplarOf(h, 0, 5, "zero"), exemplarOf(h, 1e-8, 6, "tiny"))
	assert.Equal(t, []string{"-100dead", "0zero", "1e-08tiny", "1.5alive", "3dead", "+Inf alive"}, values())
}
