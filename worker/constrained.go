package worker

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// V2 has the vectors whose label values are brought into a form of their own before they are looked up, as prometheus.V2
// has them: a path into its route, a status into its class. Each label of prometheus.ConstrainedLabels may have a
// function for that, which is applied to every value that comes in, by whatever method, and also through Vec. Nothing
// else differs from NewCounterVec and the others; a look-up allocates when a label has a function.
//
// The functions are called from any goroutine and should leave alone what they have returned once. Of several
// definitions of one vector the functions of the first that has any count, for all of its handles.
var V2 v2

type v2 struct{}

// NewCounterVec is NewCounterVec with labels that may be constrained.
func (v2) NewCounterVec(opts prometheus.CounterVecOpts) *CounterVec {
	return process.newConstrainedCounterVec(opts)
}

func (r *registry) newConstrainedCounterVec(opts prometheus.CounterVecOpts) *CounterVec {
	names, constraints := constraintsOf(opts.VariableLabels)
	return &CounterVec{*r.defineCounter(opts.CounterOpts, names).constrainedBy(constraints)}
}

// NewGaugeVec is NewGaugeVec with labels that may be constrained.
func (v2) NewGaugeVec(opts prometheus.GaugeVecOpts, mode GaugeMode) *GaugeVec {
	return process.newConstrainedGaugeVec(opts, mode)
}

func (r *registry) newConstrainedGaugeVec(opts prometheus.GaugeVecOpts, mode GaugeMode) *GaugeVec {
	names, constraints := constraintsOf(opts.VariableLabels)
	return &GaugeVec{*r.defineGauge(opts.GaugeOpts, names, mode).constrainedBy(constraints)}
}

// NewHistogramVec is NewHistogramVec with labels that may be constrained.
func (v2) NewHistogramVec(opts prometheus.HistogramVecOpts) *HistogramVec {
	return process.newConstrainedHistogramVec(opts)
}

func (r *registry) newConstrainedHistogramVec(opts prometheus.HistogramVecOpts) *HistogramVec {
	names, constraints := constraintsOf(opts.VariableLabels)
	return &HistogramVec{*r.defineHistogram(opts.HistogramOpts, names).constrainedBy(constraints)}
}

// NewSummaryVec is NewSummaryVec with labels that may be constrained.
func (v2) NewSummaryVec(opts prometheus.SummaryVecOpts) *SummaryVec {
	return process.newConstrainedSummaryVec(opts)
}

func (r *registry) newConstrainedSummaryVec(opts prometheus.SummaryVecOpts) *SummaryVec {
	names, constraints := constraintsOf(opts.VariableLabels)
	return &SummaryVec{*r.defineSummary(opts.SummaryOpts, names).constrainedBy(constraints)}
}

// constraints are the functions of a definition's variable labels, in their order; nil for those that have none.
type constraints []prometheus.LabelConstraint

// constraintsOf returns the names of labels and, if any of them has a function, the functions. There are two types that
// implement the interface, whose methods are client_golang's own.
func constraintsOf(labels prometheus.ConstrainableLabels) (names []string, c constraints) {
	switch labels := labels.(type) {
	case prometheus.UnconstrainedLabels:
		return labels, nil
	case prometheus.ConstrainedLabels:
		some := false
		for _, l := range labels {
			names, c = append(names, l.Name), append(c, l.Constraint)
			some = some || l.Constraint != nil
		}
		if some {
			return names, c
		}
	}
	return names, nil
}

// constrainedBy makes c the constraints of the vector's definition, unless it has some.
func (v *vec) constrainedBy(c constraints) *vec {
	if c != nil {
		v.def.constraints.CompareAndSwap(nil, &c)
	}
	return v
}

// value returns what becomes of a value of the i-th label. There may be too many values.
func (c *constraints) value(i int, v string) string {
	if c == nil || i >= len(*c) || (*c)[i] == nil {
		return v
	}
	return (*c)[i](v)
}

// constrain returns what becomes of the values of the vector's uncurried labels, in a copy.
func (v *vec) constrain(c *constraints, lvs []string) []string {
	own := cloneStrings(lvs)
	label := 0
	for i := range own {
		for v.curried(label) {
			label++
		}
		own[i] = c.value(label, own[i])
		label++
	}
	return own
}

// constrainLabels is constrain by names.
func (v *vec) constrainLabels(c *constraints, labels prometheus.Labels) prometheus.Labels {
	own := make(prometheus.Labels, len(labels))
	for name, value := range labels {
		own[strings.Clone(name)] = strings.Clone(value)
	}
	for i, name := range v.def.names {
		if value, ok := own[name]; ok {
			own[name] = c.value(i, value)
		}
	}
	return own
}

// clientDesc is the descriptor of client_golang's view, whose look-ups apply the constraints by themselves.
func (d *definition) clientDesc() *prometheus.Desc {
	c := d.constraints.Load()
	if c == nil {
		return d.desc
	}
	constant, labels := prometheus.Labels{}, prometheus.ConstrainedLabels{}
	for i, name := range d.family.Labels {
		constant[name] = d.constant[i]
	}
	for i, name := range d.names {
		delete(constant, name)
		labels = append(labels, prometheus.ConstrainedLabel{Name: name, Constraint: (*c)[i]})
	}
	return prometheus.V2.NewDesc(d.family.Name, d.family.Help, labels, constant, prometheus.WithUnit(d.family.Unit))
}
