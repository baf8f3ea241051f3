package python

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

func TestFile(t *testing.T) {
	for name, want := range map[string]foreign.Kind{
		"counter_123.db":            {Class: "counter", Process: "123", PID: 123},
		"gauge_all_123.db":          {Class: "gauge_all", Process: "123", PID: 123},
		"gauge_livemostrecent_7.db": {Class: "gauge_livemostrecent", Process: "7", PID: 7, Live: true},
		"histogram_worker_1.db":     {Class: "histogram", Process: "worker_1"},
		"summary_0123.db":           {Class: "summary", Process: "0123"},
		"gauge_sum_web-1.db":        {Class: "gauge_sum", Process: "web-1"},
		"counter_.db":               {},
		"counter.db":                {},
		"gauge_123.db":              {},
		"gauge_avg_123.db":          {},
		"info_123.db":               {},
		"counter_123.bin":           {},
	} {
		got, ok := file(name)
		assert.Equal(t, want, got, name)
		assert.Equal(t, want.Class != "", ok, name)
	}
}

func TestSample(t *testing.T) {
	got := sample(&foreign.Kind{Class: "gauge_livesum", Live: true},
		`["g", "g", {"b": "2", "pid": "x", "a": "\u00fc"}, "h\n"]`)
	assert.Equal(t, &foreign.Sample{
		Family: shmstore.Family{Name: "g", Help: "h\n", Type: shmstore.GaugeType, Mode: shmstore.LiveSum,
			Labels: []string{"a", "b"}},
		Values: []string{"ü", "2"},
	}, got, "a label pid is dropped")
	got = sample(&foreign.Kind{Class: "counter"}, `["c", "c_total", {}]`)
	assert.Equal(t, "c_total", got.Family.Name)
	assert.Equal(t, oldHelp, got.Family.Help, "early versions write none")
	got = sample(&foreign.Kind{Class: "histogram"}, `["h", "h_bucket", {"le": "+Inf"}, ""]`)
	assert.Equal(t, foreign.Bucket, got.Part)
	assert.Empty(t, got.Family.Labels)
	for _, wrong := range []string{``, `{}`, `["c"]`, `["c", "c_total"]`, `["c", "c_total", {"a"}, ""]`,
		`["c", "c", {}, "", ""]`,
		`["c", "c", {"a": "b" "c": "d"}, ""]`, `["c", "c", {}, ""`, `["c", "c", {}, ""] ` + `x`} {
		assert.Nil(t, sample(&foreign.Kind{Class: "counter"}, wrong), wrong)
	}
}
