package worker

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// Who passes no mode, or none of this package, is told which there are.
func TestGaugeWithoutModeSaysWhatToPass(t *testing.T) {
	r := inMemory(t)
	zero := func() float64 { return 0 }
	for name, c := range map[string]struct {
		define func(GaugeMode)
		what   string
	}{
		"gauge":            {func(m GaugeMode) { r.newGauge(prometheus.GaugeOpts{Name: "g"}, m) }, `gauge "g"`},
		"gauge vector":     {func(m GaugeMode) { r.newGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"a"}, m) }, `gauge "g"`},
		"gauge function":   {func(m GaugeMode) { r.newGaugeFunc(prometheus.GaugeOpts{Name: "g"}, m, zero) }, `gauge "g"`},
		"untyped function": {func(m GaugeMode) { r.newUntypedFunc(prometheus.UntypedOpts{Name: "u"}, m, zero) }, `untyped "u"`},
	} {
		err := panicOf(func() { c.define(0) })
		require.ErrorContains(t, err, c.what+" has no mode: pass how the values of several workers become one: worker.LiveSum", name)
		require.ErrorContains(t, panicOf(func() { c.define(99) }), c.what+" has the mode 99, which worker does not know: pass ", name)
	}
}
