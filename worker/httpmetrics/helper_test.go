package httpmetrics

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/worker"
)

var prefixes atomic.Int64

// fresh returns a prefix that no other test has: metrics are the process's, and so is what they count.
func fresh() string { return fmt.Sprintf("test%d", prefixes.Add(1)) }

// aloneIn, in the environment, names the test that this process is.
const aloneIn = "ONESCRAPE_TEST_ALONE"

// alone runs a test in a process of its own, for one that leaves many metrics behind, or counts on there being none. It
// reports whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneIn) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneIn+"="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name()+" ")
	return false
}

// serve starts a server and returns its URL. What it logs of panics is of no interest.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// get returns status and body of an answer; 0 for a connection that broke without one.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	return do(t, http.MethodGet, url, nil)
}

func do(t testing.TB, method, url string, header http.Header) (int, string) {
	t.Helper()
	return doBy(t, http.DefaultClient, method, url, header)
}

func doBy(t testing.TB, client *http.Client, method, url string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	require.NoError(t, err)
	req.Header = header
	req.Close = true // else the client asks again when a kept connection breaks
	resp, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// samples are the values of a scrape by name and labels, as `x_count{a="1",b="2"}`.
type samples map[string]float64

// scraped returns what a process exposes at the moment.
func scraped(t testing.TB) samples {
	t.Helper()
	families, err := worker.Gatherer().Gather()
	require.NoError(t, err)
	return samplesOf(families)
}

func parse(t testing.TB, text string) samples {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err, text)
	return samplesOf(slices.Collect(maps.Values(families)))
}

func samplesOf(families []*dto.MetricFamily) samples {
	s := samples{}
	for _, f := range families {
		name := f.GetName()
		for _, m := range f.Metric {
			switch {
			case m.Counter != nil:
				s[key(name, m)] = m.Counter.GetValue()
			case m.Gauge != nil:
				s[key(name, m)] = m.Gauge.GetValue()
			case m.Summary != nil:
				s[key(name+"_count", m)] = float64(m.Summary.GetSampleCount())
				s[key(name+"_sum", m)] = m.Summary.GetSampleSum()
			case m.Histogram != nil:
				s[key(name+"_count", m)] = float64(m.Histogram.GetSampleCount())
				s[key(name+"_sum", m)] = m.Histogram.GetSampleSum()
				for _, b := range m.Histogram.Bucket {
					s[key(name+"_bucket", m, "le", fmt.Sprint(b.GetUpperBound()))] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return s
}

func key(name string, m *dto.Metric, more ...string) string {
	for _, l := range m.Label {
		more = append(more, l.GetName(), l.GetValue())
	}
	return sample(name, more...)
}

// sample is the key of a sample with labels given as name, value, name, value.
func sample(name string, labels ...string) string {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	sort.Strings(pairs)
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// of are the samples whose names begin so, with the beginning cut off.
func (s samples) of(prefix string) samples {
	found := samples{}
	for k, v := range s {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			found[rest] = v
		}
	}
	return found
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, "waited in vain for "+what)
		}
	}
}

// freeAddress is one on loopback where nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
