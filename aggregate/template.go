package aggregate

import (
	"math"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/onescrape/onescrape/shmstore"
)

// What no sample changes is text that is made once: of a family its comments and what its lines have in common, of a row
// its labels. A scrape copies it and prints numbers. It is byte for byte what expfmt makes of the same.

// syntax is one of the two formats.
type syntax uint8

const (
	text004     syntax = iota // Prometheus's text format 0.0.4
	openMetrics               // OpenMetrics 1.0
	syntaxes
)

// lineTemplate is the text of a family in one format.
type lineTemplate struct {
	head                                string // its comments
	sample, sum, count, bucket, created linePrefix
	ends                                []string // of the labels of each bucket, the one up to +Inf last, or of each quantile
}

// linePrefix is what the lines of a family's samples of one kind begin with.
type linePrefix struct {
	bare string // without labels, up to the value
	open string // with labels, up to these
}

// lineEnd follows the labels.
const lineEnd = "} "

// append appends a line up to the value. The labels are as row.text has them.
func (l *linePrefix) append(b []byte, labels string) []byte {
	if labels == "" {
		return append(b, l.bare...)
	}
	return append(append(b, l.open...), labels...)
}

// appendUpTo appends a line up to where one label more goes, and lineEnd after that.
func (l *linePrefix) appendUpTo(b []byte, labels string) []byte {
	b = append(b, l.open...)
	if labels == "" {
		return b
	}
	return append(append(b, labels[:len(labels)-len(lineEnd)]...), ',')
}

func newLinePrefix(name string) linePrefix {
	if plainName(name) {
		return linePrefix{bare: name + " ", open: name + "{"}
	}
	quoted := string(appendName(nil, name))
	return linePrefix{bare: "{" + quoted + "} ", open: "{" + quoted + ","}
}

// makeTemplates makes the family's text, where it has none.
func (f *family) makeTemplates() {
	for as := range syntaxes {
		if f.templates[as] == nil {
			f.templates[as] = newLineTemplate(f, as)
		}
	}
}

// newLineTemplate makes a family's text.
func newLineTemplate(f *family, as syntax) *lineTemplate {
	fr := &lineTemplate{sample: newLinePrefix(f.name)}
	named, typ := f.name, f.rule.Type.String()
	if as == openMetrics {
		switch f.rule.Type {
		case shmstore.CounterType:
			var ok bool
			if named, ok = strings.CutSuffix(f.name, "_total"); !ok {
				typ = "unknown"
			}
		case shmstore.UntypedType:
			typ = "unknown"
		}
		fr.created = newLinePrefix(named + "_created")
	}
	name := string(appendName(nil, named))
	var head []byte
	head = append(head, "# HELP "+name+" "...)
	head = append(appendEscaped(head, f.rule.Help, as == openMetrics), '\n')
	head = append(head, "# TYPE "+name+" "+typ+"\n"...)
	if as == openMetrics && f.rule.Unit != "" {
		head = append(head, "# UNIT "+name+" "...)
		head = append(appendEscaped(head, f.rule.Unit, true), '\n')
	}
	fr.head = string(head)
	switch f.rule.Type {
	case shmstore.HistogramType:
		fr.bucket, fr.sum, fr.count = newLinePrefix(f.name+"_bucket"), newLinePrefix(f.name+"_sum"), newLinePrefix(f.name+"_count")
		for _, bound := range f.rule.Bounds {
			fr.ends = append(fr.ends, as.end(model.BucketLabel, bound))
		}
		fr.ends = append(fr.ends, as.end(model.BucketLabel, math.Inf(1)))
	case shmstore.SummaryType:
		fr.sum, fr.count = newLinePrefix(f.name+"_sum"), newLinePrefix(f.name+"_count")
		if f.rule.Window != nil {
			for _, q := range f.rule.Window.Objectives {
				fr.ends = append(fr.ends, as.end(model.QuantileLabel, q))
			}
		}
	}
	return fr
}

// end is the last of the labels where that is a number.
func (as syntax) end(label string, v float64) string { return string(as.appendEnd(nil, label, v)) }

func (as syntax) appendEnd(b []byte, label string, v float64) []byte {
	b = append(append(b, label...), `="`...)
	return append(append(as.number(b, v), '"'), lineEnd...)
}

// number appends a value.
func (as syntax) number(b []byte, v float64) []byte {
	if as == openMetrics {
		return appendOpenMetricsFloat(b, v)
	}
	return appendFloat(b, v)
}

// plainName reports whether a name is written without quotes.
func plainName(name string) bool { return model.LegacyValidation.IsValidMetricName(name) }

// labelsText is what stands between the opening brace and the value of a sample with these labels; "" without any.
func labelsText(names, values []string) string {
	if len(names) == 0 {
		return ""
	}
	var buf [256]byte
	b := buf[:0]
	for i := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabel(b, names[i], values[i])
	}
	return string(append(b, lineEnd...))
}

func appendLabel(b []byte, name, value string) []byte {
	b = append(appendName(b, name), `="`...)
	return append(appendEscaped(b, value, true), '"')
}

func appendName(b []byte, name string) []byte {
	if plainName(name) {
		return append(b, name...)
	}
	return append(appendEscaped(append(b, '"'), name, true), '"')
}

// appendEscaped appends s with backslashes before what would end it.
func appendEscaped(b []byte, s string, quoted bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '"' && quoted:
			b = append(b, `\"`...)
		default:
			b = append(b, c)
		}
	}
	return b
}
