package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sort"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// families are one scrape.
type families map[string]*dto.MetricFamily

// scrape reads an endpoint as Prometheus would.
func scrape(url string) (families, error) {
	code, body, err := get(url)
	if err != nil {
		return nil, err
	}
	if code == http.StatusServiceUnavailable {
		return nil, errBusy
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d: %s", url, code, tail(string(body)))
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(body))
}

// errBusy is what the endpoint says when a scrape took too long, on a machine that has other things to do.
var errBusy = errors.New("503")

func mustScrape(t *testing.T, url string) (f families) {
	t.Helper()
	eventually(t, "a scrape in time", func() (ok bool) {
		var err error
		f, err = scrape(url)
		if errors.Is(err, errBusy) {
			return false
		}
		require.NoError(t, err)
		return true
	})
	return f
}

// sum adds up the values of a family's counters and gauges that have these labels, given as name, value, name, value.
func (f families) sum(name string, labels ...string) float64 {
	total := 0.0
	for _, m := range f[name].GetMetric() {
		if has(m, labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// rising returns every value of a scrape that must never fall, by its line without the value, and an error for
// each histogram that contradicts itself.
func (f families) rising() (map[string]float64, []string) {
	values := map[string]float64{}
	var broken []string
	for name, family := range f {
		for _, m := range family.GetMetric() {
			labels := labelText(m)
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				values[name+labels] = m.GetCounter().GetValue()
			case dto.MetricType_SUMMARY:
				values[name+"_count"+labels] = float64(m.GetSummary().GetSampleCount())
				values[name+"_sum"+labels] = m.GetSummary().GetSampleSum()
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				values[name+"_count"+labels] = float64(h.GetSampleCount())
				values[name+"_sum"+labels] = h.GetSampleSum()
				below, last := uint64(0), math.Inf(-1)
				for _, b := range h.GetBucket() {
					values[fmt.Sprintf("%s_bucket%s le=%v", name, labels, b.GetUpperBound())] = float64(b.GetCumulativeCount())
					if b.GetCumulativeCount() < below || b.GetUpperBound() <= last {
						broken = append(broken, fmt.Sprintf("%s%s: bucket %v has %d, the one before %d", name, labels,
							b.GetUpperBound(), b.GetCumulativeCount(), below))
					}
					below, last = b.GetCumulativeCount(), b.GetUpperBound()
				}
				if !math.IsInf(last, 1) || below != h.GetSampleCount() {
					broken = append(broken, fmt.Sprintf("%s%s: count is %d, bucket %v has %d", name, labels,
						h.GetSampleCount(), last, below))
				}
			}
		}
	}
	return values, broken
}

func labelText(m *dto.Metric) string {
	pairs := make([]string, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	sort.Strings(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

func TestRising(t *testing.T) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parse := func(text string) families {
		f, err := parser.TextToMetricFamilies(strings.NewReader(text))
		require.NoError(t, err)
		return f
	}
	values, broken := parse(`# TYPE c counter
c{b="2",a="1"} 3
# TYPE g gauge
g 1
# TYPE h histogram
h_bucket{le="1"} 2
h_bucket{le="+Inf"} 3
h_sum 4
h_count 3
# TYPE s summary
s_sum 5
s_count 6
`).rising()
	require.Empty(t, broken)
	require.Equal(t, map[string]float64{
		`c{a="1",b="2"}`: 3, `h_count{}`: 3, `h_sum{}`: 4, `h_bucket{} le=1`: 2, `h_bucket{} le=+Inf`: 3, `s_sum{}`: 5, `s_count{}`: 6,
	}, values)

	for _, text := range []string{
		"# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1\n",
		"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 3\nh_sum 1\n",
		"# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_count 2\nh_sum 1\n",
	} {
		_, broken := parse(text).rising()
		require.Len(t, broken, 1, text)
	}
}
