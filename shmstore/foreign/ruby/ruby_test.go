package ruby

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/onescrape/onescrape/shmstore/foreign"
)

func TestFile(t *testing.T) {
	for name, want := range map[string]foreign.Kind{
		"metric_http_requests_total___123.bin": {Class: "http_requests_total", Process: "123", PID: 123},
		"metric_a___b___7.bin":                 {Class: "a___b", Process: "7", PID: 7},
		"metric____7.bin":                      {},
		"metric_a___.bin":                      {},
		"metric_a___07.bin":                    {},
		"metric_a__7.bin":                      {},
		"metric_a___7":                         {},
		"a___7.bin":                            {},
	} {
		got, ok := file(name)
		assert.Equal(t, want, got, name)
		assert.Equal(t, want.Class != "", ok, name)
	}
}

func TestParse(t *testing.T) {
	for key, want := range map[string]map[string]string{
		"":                    {},
		"a=b":                 {"a": "b"},
		"a=x+y%26&b=%C3%BC&c": {"a": "x y&", "b": "ü", "c": ""},
		"a=1&a=2":             {"a": "1"},
		"a=x%ff%fey":          {"a": "x\uFFFDy"},
	} {
		got, ok := parse(key)
		assert.True(t, ok, key)
		assert.Equal(t, want, got, key)
	}
	_, ok := parse("a=%zz")
	assert.False(t, ok)
}

func TestDefinitionWithTooManyBuckets(t *testing.T) {
	bounds := make([]float64, foreign.MaxBounds+1)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	open := func(bounds []float64) error {
		_, err := Open(t.TempDir(), map[string]Definition{"h": {Type: "histogram", Buckets: bounds}}, foreign.Options{})
		return err
	}
	assert.ErrorContains(t, open(bounds), "definition of h: 1025 buckets")
	assert.NoError(t, open(bounds[1:]))
}
