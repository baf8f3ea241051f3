package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	dashboard = "../docs/grafana/http.json"
	signals   = "examples/signals"
)

// panel is a part of a Grafana dashboard.
type panel struct {
	ID      int
	Title   string
	Type    string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr, RefID string }
}

// panels are those of the dashboard that have expressions.
func panels(t *testing.T) (all []panel) {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	require.NoError(t, err)
	var d struct {
		Panels     []panel
		Templating struct{ List []struct{ Name string } }
	}
	require.NoError(t, json.Unmarshal(text, &d))
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	assert.ElementsMatch(t, []string{"datasource", "job", "path"}, variables)
	ids := map[int]bool{}
	for _, p := range d.Panels {
		assert.False(t, ids[p.ID], "two panels %d", p.ID)
		ids[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.Targets, p.Title)
		all = append(all, p)
	}
	return all
}

// expressions are those of the dashboard, with its variables as Grafana puts them in when everything is chosen.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	variables := strings.NewReplacer("$__rate_interval", "10s", "$job", ".*", "$path", ".*")
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			require.NotContains(t, expr, "$", p.Title)
			all = append(all, expr)
		}
	}
	require.Greater(t, len(all), 20)
	return all
}

// flaskExpressions are those of the dashboard of prometheus_flask_exporter 0.23.2, examples/sample-signals.
var flaskExpressions = []string{
	`rate(flask_http_request_duration_seconds_count{status="200"}[30s])`,
	`sum(rate(flask_http_request_duration_seconds_count{status!="200"}[30s]))`,
	`increase(flask_http_request_total[1m])`,
	`rate(flask_http_request_duration_seconds_sum{status="200"}[30s])
	/
	rate(flask_http_request_duration_seconds_count{status="200"}[30s])`,
	`histogram_quantile(0.5, rate(flask_http_request_duration_seconds_bucket{status="200"}[30s]))`,
	`process_resident_memory_bytes{job="example"}`,
	`increase(flask_http_request_duration_seconds_bucket{status="200",le="0.25"}[30s])
	/ ignoring (le) increase(flask_http_request_duration_seconds_count{status="200"}[30s])`,
	`histogram_quantile(0.9, rate(flask_http_request_duration_seconds_bucket{status="200"}[30s]))`,
	`rate(process_cpu_seconds_total{job="example"}[30s])`,
}

// The demo runs, its traffic too, and a real Prometheus that scrapes it has an answer to every expression of the
// dashboard: with a text scrape, and with native histograms over protobuf; and to every one of the dashboard that
// prometheus_flask_exporter has for its own demo.
func TestDashboard(t *testing.T) {
	long(t)
	if race {
		t.Skip("the programs are other ones, with or without the race detector here")
	}
	peer(t, "prometheus", "prometheus")
	app, generator := buildModule(t, ".", "./"+signals+"/app"), buildModule(t, ".", "./"+signals+"/generator")
	for _, c := range []struct {
		name        string
		app         []string
		prometheus  []string
		expressions []string
	}{
		{"text", nil, nil, expressions(t)},
		{"native histograms", []string{"-native"}, []string{"--enable-feature=native-histograms"}, expressions(t)},
		{"as of Flask", []string{"-prefix", "flask"}, nil, flaskExpressions},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			s.process = launch(t, exec.Command(app, append([]string{"-listen", s.app, "-metrics",
				strings.TrimPrefix(s.base, "http://"), "-store", s.store, "-workers", "2"}, c.app...)...))
			s.waitReady()
			traffic := launch(t, exec.Command(generator, "-url", "http://"+s.app, "-clients", "8"))
			api := startPrometheusWith(t, staticConfig(t, strings.TrimPrefix(s.base, "http://")), c.prometheus...)

			// Something happens to the workers, so that there is something to be seen of them.
			eventually(t, "the first scrape", func() bool {
				n, _ := query(t, api, `sum({__name__=~"(flask_)?http_request_total"})`)
				return n > 0
			})
			require.NoError(t, syscall.Kill(s.workers()[0], syscall.SIGKILL))
			eventually(t, "two workers again", func() bool { return len(s.workers()) == 2 })
			s.signal(syscall.SIGHUP)

			for _, expr := range c.expressions {
				eventually(t, "an answer to "+expr, func() bool {
					require.True(t, traffic.alive(), "%s", traffic.stderr.String())
					return hasData(t, api, expr)
				})
			}
			if c.prometheus != nil {
				// It is the native histograms that answer.
				assert.False(t, hasData(t, api, "http_request_duration_seconds_bucket"))
				assert.True(t, hasData(t, api, "http_request_duration_seconds"))
			} else {
				assert.False(t, hasData(t, api, "http_request_duration_seconds"))
			}
			assert.False(t, hasData(t, api, `{__name__=~".*_label_(errors|overflows)_total"}`))
			traffic.signal(os.Interrupt)
			assert.Zero(t, traffic.wait(), "%s", traffic.stderr.String())
		})
	}
}

// hasData reports whether an expression has a result, of whichever kind, that is a number.
func hasData(t *testing.T, api, expr string) bool {
	t.Helper()
	code, body, err := get(api + "/api/v1/query?query=" + url.QueryEscape(expr))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code, "%s: %s", expr, body)
	var answer struct {
		Data struct {
			Result []struct {
				Value     [2]any
				Histogram []any
			}
		}
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	return slices.ContainsFunc(answer.Data.Result, func(r struct {
		Value     [2]any
		Histogram []any
	}) bool {
		return r.Histogram != nil || r.Value[1] != nil && fmt.Sprint(r.Value[1]) != "NaN"
	})
}

// staticConfig is the demo's configuration, with another target and not as much patience.
func staticConfig(t *testing.T, target string) string {
	t.Helper()
	text, err := os.ReadFile(signals + "/prometheus/static.yml")
	require.NoError(t, err)
	require.Contains(t, string(text), "127.0.0.1:9464")
	require.Contains(t, string(text), "scrape_interval: 3s")
	return strings.NewReplacer("127.0.0.1:9464", target,
		"scrape_interval: 3s", "scrape_interval: 500ms\n  scrape_timeout: 500ms").Replace(string(text))
}

// The demo's configurations are ones that Prometheus takes, and its README names files that are there.
func TestSignalsFiles(t *testing.T) {
	promtool := peer(t, "promtool", "prometheus")
	for _, file := range []string{"static.yml", "dns_sd.yml"} {
		out, err := exec.Command(promtool, "check", "config", filepath.Join(signals, "prometheus", file)).CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}
	text, err := os.ReadFile(signals + "/README.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?:\./)?(integration/[a-z/]+[a-z_.]+|docs/[a-z/]+\.json)`).FindAllStringSubmatch(
		string(text), -1) {
		_, err := os.Stat(filepath.Join("..", m[1]))
		assert.NoError(t, err)
	}
}
