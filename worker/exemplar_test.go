package worker

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore"
)

// exemplarLine returns an exemplar without its time, "" for none.
func exemplarLine(e *dto.Exemplar) string {
	if e == nil {
		return ""
	}
	labels := map[string]string{}
	for _, l := range e.Label {
		labels[l.GetName()] = l.GetValue()
	}
	return fmt.Sprint(e.GetValue(), labels)
}

// exemplarLines returns the exemplars of a metric: a counter's, and those of each bucket that has one.
func exemplarLines(m *dto.Metric) (lines []string) {
	if e := m.GetCounter().GetExemplar(); e != nil {
		lines = append(lines, exemplarLine(e))
	}
	for _, b := range m.GetHistogram().GetBucket() {
		if b.Exemplar != nil {
			lines = append(lines, fmt.Sprint(b.GetUpperBound(), " ", b.GetCumulativeCount(), " ", exemplarLine(b.Exemplar)))
		}
	}
	return lines
}

func family(t testing.TB, g prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	require.FailNow(t, "there is no family "+name)
	return nil
}

func TestExemplarsMove(t *testing.T) {
	r := inMemory(t)
	c, h := r.newCounter(copts), r.newHistogram(hopts)
	c.AddWithExemplar(2, prometheus.Labels{"trace": "1", "span": "2"})
	h.ObserveWithExemplar(1.5, prometheus.Labels{"trace": strings.Repeat("ü", 120)})
	h.ObserveWithExemplar(9, prometheus.Labels{})
	check := func() {
		t.Helper()
		for _, m := range []*dto.Metric{written(t, c), family(t, gatherer{r}, "m_total").Metric[0]} {
			assert.Equal(t, []string{"2 map[span:2 trace:1]"}, exemplarLines(m))
		}
		for _, m := range []*dto.Metric{written(t, h), family(t, gatherer{r}, "m").Metric[0]} {
			assert.Equal(t, []string{"2 1 1.5 map[trace:" + strings.Repeat("ü", 120) + "]", "+Inf 2 9 map[]"}, exemplarLines(m))
		}
	}
	check()
	path := filepath.Join(t.TempDir(), "store")
	before := written(t, c).Counter.CreatedTimestamp
	require.NoError(t, r.open(path, 0))
	check()
	assert.Equal(t, before.AsTime(), family(t, gatherer{r}, "m_total").Metric[0].Counter.CreatedTimestamp.AsTime(),
		"a metric that was made before Open began when it was made")
	at := written(t, c).Counter.Exemplar.Timestamp.AsTime()
	require.NoError(t, r.detach())
	check()
	require.NoError(t, r.open(path, 0))
	check()
	assert.Equal(t, at, written(t, c).Counter.Exemplar.Timestamp.AsTime())
}

// TestExemplarsBelongToTheirValue looks at exemplars, by every way there is, while they are replaced and while metrics
// move and are deleted: labels are always those of the value.
func TestExemplarsBelongToTheirValue(t *testing.T) {
	r := inMemory(t)
	c := r.newCounterVec(copts, []string{"a"})
	h := r.newHistogramVec(hopts, []string{"a"})
	var stop atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for n := range 2 {
		all.Go(func() {
			for i := n; !stop.Load(); i += 2 {
				v := float64(i % 1000)
				l := prometheus.Labels{"v": strconv.Itoa(i % 1000), "pad": strings.Repeat("x", i%100)}
				c.WithLabelValues("x").AddWithExemplar(v, l)
				h.WithLabelValues("x").(prometheus.ExemplarObserver).ObserveWithExemplar(v, l)
				if i%500 == 0 {
					c.Reset()
				}
			}
		})
	}
	seen := 0
	check := func(e *dto.Exemplar) {
		if e == nil {
			return
		}
		seen++
		v := int(e.GetValue())
		require.Equal(t, fmt.Sprintf("%d map[pad:%s v:%d]", v, strings.Repeat("x", v%100), v), exemplarLine(e))
	}
	look := func(m *dto.Metric) {
		check(m.GetCounter().GetExemplar())
		for _, b := range m.GetHistogram().GetBucket() {
			check(b.Exemplar)
			if b.Exemplar != nil {
				require.LessOrEqual(t, b.Exemplar.GetValue(), b.GetUpperBound())
			}
		}
	}
	path := filepath.Join(t.TempDir(), "store")
	for round := 0; round < 20 || seen < 200; round++ {
		if round%10 == 3 {
			require.NoError(t, r.open(path, 0))
		} else if round%10 == 8 {
			require.NoError(t, r.detach())
		}
		families, err := gatherer{r}.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				look(m)
			}
		}
		look(written(t, h.WithLabelValues("x").(*Histogram)))
	}
}

func TestFullStoreDropsExemplarsAndGoesOnCounting(t *testing.T) {
	r := inMemory(t)
	r.binding.limit = 128 << 10
	require.NoError(t, r.open(filepath.Join(t.TempDir(), "store"), 0))
	c := r.newCounterVec(copts, []string{"a"})
	var counters []*Counter
	for i := 0; len(counters) == 0 || counters[i-1].stored != nil; i++ {
		counters = append(counters, c.WithLabelValues(strconv.Itoa(i)))
	}
	dropped := 0
	for _, m := range counters {
		m.AddWithExemplar(1, prometheus.Labels{"trace": "1"})
		m.AddWithExemplar(1, prometheus.Labels{"trace": "2"})
		require.EqualValues(t, 2, written(t, m).Counter.GetValue())
		if written(t, m).Counter.Exemplar == nil {
			dropped++
			require.NotZero(t, m.exemplars.Load().retry)
			_, err := r.binding.writer.StoreExemplar(m.stored, 0, &shmstore.Exemplar{})
			require.ErrorIs(t, err, shmstore.ErrFull)
		}
	}
	require.NotZero(t, dropped)
	require.NotNil(t, written(t, counters[len(counters)-1]).Counter.Exemplar, "it is in process memory")
}

// The handler that a worker mounts itself shows exemplars and created times in each format that has them.
func TestHandlerShowsExemplars(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		opts := hopts
		opts.Name = "h" // OpenMetrics calls the family of m_total m
		r.newHistogram(opts).ObserveWithExemplar(0.5, prometheus.Labels{"trace": "t1"})
		r.newCounter(copts).AddWithExemplar(1, prometheus.Labels{"trace": "t2"})
		h := r.handler(aggregate.HandlerOptions{CreatedLines: true})
		ask := func(accept string) (http.Header, []byte) {
			w := getAs(h, accept)
			require.Equal(t, http.StatusOK, w.Code)
			return w.Header(), w.Body.Bytes()
		}
		_, body := ask("application/openmetrics-text;version=1.0.0")
		assert.Contains(t, string(body), `h_bucket{le="1.0"} 1 # {trace="t1"} 0.5 `, p.name)
		assert.Contains(t, string(body), `m_total 1.0 # {trace="t2"} 1.0 `, p.name)
		assert.Contains(t, string(body), "\nm_created 1", p.name)
		header, body := ask(string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
		decoder := expfmt.NewDecoder(bytes.NewReader(body), expfmt.ResponseFormat(header))
		found := 0
		for {
			var f dto.MetricFamily
			if decoder.Decode(&f) != nil {
				break
			}
			for _, m := range f.Metric {
				found += len(exemplarLines(m))
				if c := m.GetCounter().GetCreatedTimestamp(); f.GetName() == "m_total" {
					assert.WithinDuration(t, time.Now(), c.AsTime(), time.Hour)
				}
			}
		}
		assert.Equal(t, 2, found, p.name)
		_, body = ask("text/plain")
		assert.NotContains(t, string(body), "t1")
	}
}

func TestExemplarsOfNativeHistogram(t *testing.T) {
	for _, p := range places {
		r := p.make(t)
		h := r.newHistogram(prometheus.HistogramOpts{Name: "n", Help: "N.", NativeHistogramBucketFactor: 1.1})
		for i := range 100 {
			h.ObserveWithExemplar(float64(int(1)<<(i%8)), prometheus.Labels{"n": fmt.Sprint(i)})
		}
		for _, m := range []*dto.Metric{written(t, h), family(t, gatherer{r}, "n").Metric[0]} {
			var got []string
			for _, e := range m.Histogram.Exemplars {
				got = append(got, exemplarLine(e))
			}
			assert.Equal(t, []string{"1 map[n:96]", "2 map[n:97]", "4 map[n:98]", "8 map[n:99]", "16 map[n:92]", "32 map[n:93]",
				"64 map[n:94]", "128 map[n:95]"}, got, p.name)
			assert.Equal(t, []string{"+Inf 100 8 map[n:99]"}, exemplarLines(m), p.name)
		}
	}
}
