package aggregate

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/onescrape/onescrape/aggregate/internal/accumulator"
	"github.com/onescrape/onescrape/shmstore"
)

// exposition is a way to write the merged metrics as text.
type exposition struct {
	syntax   syntax
	escaping model.EscapingScheme // of names that are not ASCII; NoEscaping: they are quoted
	created  bool                 // with _created samples, in OpenMetrics
}

// appendAll appends the families of these names, or all, and those of others, which are sorted. The caller holds the lock.
func (x exposition) appendAll(b []byte, p *plan, wanted func(name string) bool, others []*dto.MetricFamily) ([]byte, error) {
	var err error
	b = slices.Grow(b, x.size(p, wanted))
	for _, f := range p.exposed {
		for len(others) > 0 && others[0].GetName() < f.name && err == nil {
			b, err = x.appendOther(b, others[0], wanted)
			others = others[1:]
		}
		if err != nil {
			return b, err
		}
		switch {
		case !wanted(f.name):
		case x.escaping != model.NoEscaping && f.quoted():
			if b, err = x.appendOther(b, f.output(), wanted); err != nil {
				return b, err
			}
		default:
			b = x.appendFamily(b, f)
		}
	}
	for _, mf := range others {
		if b, err = x.appendOther(b, mf, wanted); err != nil {
			return b, err
		}
	}
	if x.syntax == openMetrics {
		b = append(b, "# EOF\n"...)
	}
	return b, nil
}

// size returns how long the plan's families will be, about and rather too much: a buffer that has to grow is there twice.
func (x exposition) size(p *plan, wanted func(name string) bool) (n int) {
	const number = 24 // a value and the end of its line
	for _, f := range p.exposed {
		fr := f.templates[x.syntax]
		if fr == nil || !wanted(f.name) {
			continue
		}
		n += len(fr.head)
		rows := len(f.order)
		add := func(l *linePrefix) { n += f.text + rows*(len(l.open)+number) }
		for _, end := range fr.ends {
			n += rows * len(end)
			if f.rule.Type == shmstore.HistogramType {
				add(&fr.bucket)
			} else {
				add(&fr.sample)
			}
		}
		switch f.rule.Type {
		case shmstore.HistogramType, shmstore.SummaryType:
			add(&fr.sum)
			add(&fr.count)
		default:
			add(&fr.sample)
		}
		if x.created && x.syntax == openMetrics {
			add(&fr.created)
		}
	}
	return n
}

// appendOther has expfmt append a family.
func (x exposition) appendOther(b []byte, mf *dto.MetricFamily, wanted func(name string) bool) ([]byte, error) {
	if !wanted(mf.GetName()) {
		return b, nil
	}
	mf = model.EscapeMetricFamily(mf, x.escaping)
	to := appender{b}
	var err error
	switch {
	case x.syntax == text004:
		_, err = expfmt.MetricFamilyToText(&to, mf)
	case x.created:
		_, err = expfmt.MetricFamilyToOpenMetrics(&to, mf, expfmt.WithCreatedLines())
	default:
		_, err = expfmt.MetricFamilyToOpenMetrics(&to, mf)
	}
	return to.b, err
}

// appender is what expfmt takes to write to without a buffer of its own.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error)       { a.b = append(a.b, p...); return len(p), nil }
func (a *appender) WriteString(s string) (int, error) { a.b = append(a.b, s...); return len(s), nil }
func (a *appender) WriteByte(c byte) error            { a.b = append(a.b, c); return nil }
func (a *appender) WriteRune(r rune) (int, error) {
	a.b = utf8.AppendRune(a.b, r)
	return utf8.RuneLen(r), nil
}

// appendFamily appends a family as output has it, in the syntax that quotes names.
func (x exposition) appendFamily(b []byte, f *family) []byte {
	fr := f.templates[x.syntax]
	b = append(b, fr.head...)
	switch f.rule.Type {
	case shmstore.HistogramType:
		for i, n := range f.order {
			if f.visible(n) {
				b = x.appendHistogram(b, f, fr, n, f.texts[i])
			}
		}
	case shmstore.SummaryType:
		for i, n := range f.order {
			if f.visible(n) {
				b = x.appendSummary(b, f, fr, n, f.texts[i])
			}
		}
	default:
		for i, n := range f.order {
			if f.visible(n) {
				b = x.appendValue(b, f, fr, n, f.texts[i])
			}
		}
	}
	return b
}

// appendValue appends the samples of a counter, a gauge or an untyped metric.
func (x exposition) appendValue(b []byte, f *family, fr *lineTemplate, n int32, labels string) []byte {
	b = fr.sample.append(b, labels)
	b = x.syntax.number(b, f.values[n])
	if x.syntax == openMetrics {
		if held := f.exemplarsOf(n); held != nil {
			b = appendExemplar(b, held[0].out)
		}
		return x.appendCreated(append(b, '\n'), f, fr, n)
	}
	return append(b, '\n')
}

func (x exposition) appendHistogram(b []byte, f *family, fr *lineTemplate, n int32, labels string) []byte {
	width := len(fr.ends)
	var held []exemplarCell
	if x.syntax == openMetrics {
		held = f.exemplarsOf(n)
	}
	var total uint64
	for j, count := range f.buckets[int(n)*width:][:width] {
		total = accumulator.AddSaturated(total, count)
		b = x.appendCount(append(fr.bucket.appendUpTo(b, labels), fr.ends[j]...), total)
		if held != nil {
			if j < width-1 {
				b = appendExemplar(b, held[j].out)
			} else {
				b = appendExemplar(b, f.lastExemplar(held))
			}
		}
		b = append(b, '\n')
	}
	b = append(x.syntax.number(fr.sum.append(b, labels), f.sums[n].Value()), '\n')
	b = append(x.appendCount(fr.count.append(b, labels), total), '\n')
	return x.appendCreated(b, f, fr, n)
}

func (x exposition) appendSummary(b []byte, f *family, fr *lineTemplate, n int32, labels string) []byte {
	for j, end := range fr.ends {
		v := f.computed[int(n)*len(fr.ends)+j]
		b = append(x.syntax.number(append(fr.sample.appendUpTo(b, labels), end...), v), '\n')
	}
	if f.lines.of != nil && f.rule.Window == nil {
		for q, v := range f.eachLine(n) {
			b = x.syntax.appendEnd(fr.sample.appendUpTo(b, labels), model.QuantileLabel, q)
			b = append(x.syntax.number(b, v), '\n')
		}
	}
	b = append(x.syntax.number(fr.sum.append(b, labels), f.sums[n].Value()), '\n')
	b = append(x.appendCount(fr.count.append(b, labels), f.buckets[n]), '\n')
	return x.appendCreated(b, f, fr, n)
}

// appendCount appends a number of observations, which the text format has as a float64.
func (x exposition) appendCount(b []byte, n uint64) []byte {
	if x.syntax == openMetrics {
		return strconv.AppendUint(b, n, 10)
	}
	return appendFloat(b, float64(n))
}

// appendCreated appends the sample that says when the counting began.
func (x exposition) appendCreated(b []byte, f *family, fr *lineTemplate, n int32) []byte {
	r := &f.rows[n]
	if !x.created || x.syntax != openMetrics || r.created == 0 {
		return b
	}
	b = fr.created.append(b, r.text)
	return append(appendOpenMetricsFloat(b, float64(r.created)/1e9), '\n')
}

// appendExemplar appends an exemplar, if it is one that has labels.
func appendExemplar(b []byte, e *dto.Exemplar) []byte {
	if len(e.GetLabel()) == 0 {
		return b
	}
	b = append(b, " # "...)
	separator := byte('{')
	for _, l := range e.Label {
		b = appendLabel(append(b, separator), l.GetName(), l.GetValue())
		separator = ','
	}
	b = appendOpenMetricsFloat(append(b, lineEnd...), e.GetValue())
	return appendOpenMetricsFloat(append(b, ' '), float64(e.Timestamp.AsTime().UnixNano())/1e9)
}

// quoted reports whether a name in the family must be quoted or escaped.
func (f *family) quoted() bool {
	return !plainName(f.name) || slices.ContainsFunc(f.contributions, func(d *contribution) bool {
		return slices.ContainsFunc(d.def.Labels, func(l string) bool { return !plainName(l) })
	}) || !plainName(f.label)
}

// namesAmong returns a function that reports whether a name is in names. Without names it is always true.
func namesAmong(names []string) func(string) bool {
	return func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
}

func byName(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }
