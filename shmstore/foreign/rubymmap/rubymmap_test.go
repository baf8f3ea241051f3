package rubymmap

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore/foreign"
)

func TestFile(t *testing.T) {
	for name, want := range map[string]foreign.Kind{
		"counter_123-0.db":                {Class: "counter", Process: "123", PID: 123},
		"gauge_all_123-4.db":              {Class: "gauge_all", Process: "123", PID: 123},
		"histogram_worker_id_3-0.db":      {Class: "histogram", Process: "worker_id_3"},
		"gauge_livesum_process_id_9-0.db": {Class: "gauge_livesum", Process: "process_id_9", Live: true},
		"summary_puma-1-0.db":             {Class: "summary", Process: "puma-1"},
		"counter_123.db":                  {Class: "counter", Process: "123", PID: 123},
		"counter_-0.db":                   {},
		"gauge_123-0.db":                  {},
		"gauge_sum_123-0.db":              {},
		"counter_123-0.bin":               {},
	} {
		got, ok := file(name)
		assert.Equal(t, want, got, name)
		assert.Equal(t, want.Class != "", ok, name)
	}
}

func TestSample(t *testing.T) {
	got := sample(&foreign.Kind{Class: "counter"}, `["c","c",["b","a"],[404,null]]`)
	assert.Equal(t, []string{"a", "b"}, got.Family.Labels)
	assert.Equal(t, []string{"", "404"}, got.Values)
	for _, wrong := range []string{``, `["c","c",["a"],[]]`, `["c","c",[]]`, `["c","c",{},[]]`, `["c","c",[],[],1]`} {
		assert.Nil(t, sample(&foreign.Kind{Class: "counter"}, wrong), wrong)
	}
}
