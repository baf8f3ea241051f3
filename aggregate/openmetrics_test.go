package aggregate

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onescrape/onescrape/shmstore"
)

// headNames returns the names of the families of an exposition.
func headNames(t *testing.T, exposition string) (names []string) {
	t.Helper()
	for line := range strings.Lines(exposition) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok && !strings.HasPrefix(rest, "onescrape_") {
			name, _, _ := strings.Cut(rest, " ")
			require.NotContains(t, names, name, "a second TYPE line")
			names = append(names, name)
		}
	}
	return names
}

// Of two families that have a name in common in OpenMetrics alone, the later one is left out there alone.
func TestNamesThatCollideInOpenMetrics(t *testing.T) {
	dir := newDir(t)
	log := &logLines{}
	s := openStore(t, dir, Options{Logger: log.logger()})
	p := startLocal(t, dir, 0)
	gauge := func(name string) action {
		return action{Do: "set", Family: gaugeFamily(name, shmstore.Sum), V: 1}
	}
	p.do(gauge("req"), action{Do: "add", Family: counterFamily("req_total"), V: 1},
		action{Do: "observe", Family: histogramFamily("hh", []float64{1}), V: 1}, gauge("hh_created"),
		gauge("aa_created"), action{Do: "add", Family: counterFamily("aa_total"), V: 1},
		action{Do: "observe", Family: summaryFamily("ss"), V: 1}, gauge("ss_created"),
		action{Do: "add", Family: counterFamily("plain"), V: 1}, gauge("plain_created"),
		action{Do: "add", Family: counterFamily("onescrape_store_files_total"), V: 1}, gauge("onescrape_store_folds"), ready)
	all := []string{"aa_created", "aa_total", "hh", "hh_created", "plain", "plain_created", "req", "req_total", "ss", "ss_created"}
	kept := []string{"aa_created", "hh", "plain", "req", "ss"}
	beside := prometheus.NewRegistry()
	beside.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "beside_total"}))
	handlers := map[string]*httptest.Server{
		"alone":  httptest.NewServer(s.Handler(HandlerOptions{CreatedLines: true})),
		"beside": httptest.NewServer(s.Handler(HandlerOptions{Additional: beside})),
		// By way of Gather, because a name is taken in every format.
		"gathered": httptest.NewServer(s.Handler(HandlerOptions{Additional: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			return []*dto.MetricFamily{ownGauge("hh_count", "Help.", 1)}, nil
		})})),
	}
	openMetrics := map[string]string{"Accept": "application/openmetrics-text; version=1.0.0"}
	for name, server := range handlers {
		t.Cleanup(server.Close)
		for range 2 {
			got := headNames(t, scrape(t, server.URL, "", openMetrics).body)
			want := kept
			switch name {
			case "beside":
				want = []string{"aa_created", "beside", "hh", "plain", "req", "ss"}
			case "gathered":
				got = got[:min(len(got), len(want))]
			}
			assert.Equal(t, want, got, name)
		}
	}
	server := handlers["alone"]
	body := scrape(t, server.URL, "", openMetrics).body
	assert.Equal(t, 1, strings.Count(body, "# TYPE onescrape_store_files "), "the store's own go first")
	assert.Equal(t, 1, strings.Count(body, "# TYPE onescrape_store_folds "))
	assert.Empty(t, headNames(t, scrape(t, server.URL, "name[]=req_total", openMetrics).body), "whatever is asked for")
	assert.Equal(t, all, headNames(t, scrape(t, server.URL, "", nil).body), "the text format has them all")
	counts := text(t, s, "onescrape_merge_conflicts_total")
	for _, name := range []string{"aa_total", "hh_created", "plain_created", "req_total", "ss_created", "onescrape_store_files_total",
		"onescrape_store_folds"} {
		assert.Contains(t, counts, "onescrape_merge_conflicts_total{family=\""+name+"\"} 1\n")
	}
	assert.Len(t, log.about("another definition rules"), 7)
	parseByClientPython(t, body)
}

// parseByClientPython has client_python's parser of OpenMetrics read an exposition, where there is one.
func parseByClientPython(t *testing.T, exposition string) {
	t.Helper()
	const program = `
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError:
    sys.exit(77)
list(text_string_to_metric_families(sys.stdin.read()))`
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		cmd := exec.Command(python, "-c", program)
		cmd.Stdin = strings.NewReader(exposition)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 0 {
			return
		}
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 77 {
			continue
		}
		require.NoError(t, err, "%s", out)
	}
	if os.Getenv("ONESCRAPE_REQUIRE_PEERS") != "" {
		t.Fatal("client_python is not installed")
	}
	t.Log("client_python is not installed, so its parser was not asked")
}
