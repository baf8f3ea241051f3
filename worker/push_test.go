package worker

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/push"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

// pushed is what a push gateway gets.
type pushed struct {
	method, path string
	families     map[string]*dto.MetricFamily
	err          error
}

// ServeHTTP parses what was pushed, as a gateway does.
func (p *pushed) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.method, p.path, p.families = req.Method, req.URL.Path, map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(req.Body, expfmt.ResponseFormat(req.Header))
	for {
		mf := new(dto.MetricFamily)
		if err := d.Decode(mf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			p.err = err
			break
		}
		p.families[mf.GetName()] = mf
	}
	w.WriteHeader(http.StatusAccepted)
}

// The merged metrics of all processes, also those that are exported, can be pushed, in either format.
func TestPush(t *testing.T) {
	one, other := inMemory(t), inMemory(t)
	path := storeDir(t)
	for slot, r := range []*registry{one, other} {
		require.NoError(t, r.open(path, slot))
		r.newCounterVec(copts, []string{"a"}).WithLabelValues("x").Add(2.5)
		r.newHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2}}).Observe(1.5)
		reg := prometheus.NewRegistry()
		promauto.With(reg).NewSummary(prometheus.SummaryOpts{Name: "s", Objectives: map[float64]float64{.5: .1}}).
			Observe(float64(slot + 1))
		mustExport(t, r, reg, ExportOptions{})
	}
	for _, format := range []expfmt.Format{expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeTextPlain)} {
		gateway := &pushed{}
		server := httptest.NewServer(gateway)
		err := push.New(server.URL, "batch").Grouping("shard", "7").Gatherer(gatherer{one}).Format(format).Push()
		server.Close()
		require.NoError(t, err)
		require.NoError(t, gateway.err)
		require.Equal(t, http.MethodPut, gateway.method)
		require.True(t, strings.HasPrefix(gateway.path, "/metrics/job/batch"), gateway.path)
		require.Equal(t, 5.0, gateway.families["m_total"].GetMetric()[0].GetCounter().GetValue())
		h := gateway.families["h"].GetMetric()[0].GetHistogram()
		require.EqualValues(t, 2, h.GetSampleCount())
		require.Equal(t, 3.0, h.GetSampleSum())
		require.EqualValues(t, 0, h.GetBucket()[0].GetCumulativeCount())
		require.EqualValues(t, 2, h.GetBucket()[1].GetCumulativeCount())
		s := gateway.families["s"].GetMetric()[0].GetSummary()
		require.EqualValues(t, 2, s.GetSampleCount())
		require.Len(t, s.GetQuantile(), 1)
		require.Equal(t, 2.0, s.GetQuantile()[0].GetValue())
		require.Equal(t, 2.0, gateway.families["onescrape_store_files"].GetMetric()[1].GetGauge().GetValue())
	}
}
