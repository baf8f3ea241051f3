package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// tolerance is how far, of itself, the sum of a peer that rounds after every addition may be off.
const tolerance = 1e-9

// samples reads the samples of the families that are measured from what a scraper exposes.
func (s *scraper) samples(dir string) (map[string]float64, error) {
	path := filepath.Join(dir, "exposition")
	defer os.Remove(path)
	if err := s.ask("write "+path, &struct{}{}); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// Without comments, which not every peer writes, each sample is a metric of its own.
	var lines []byte
	for line := range bytes.Lines(text) {
		if line[0] != '#' {
			lines = append(lines, line...)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(lines))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	all := map[string]float64{}
	for name, mf := range families {
		if strings.HasPrefix(name, "bench_") && !strings.HasSuffix(name, "_created") {
			for _, m := range mf.Metric {
				all[name+labelText(m)] = m.GetUntyped().GetValue()
			}
		}
	}
	return all, nil
}

// labelText is the same for labels in another order, and for bounds in another form.
func labelText(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.Label {
		value := l.GetValue()
		if bound, err := strconv.ParseFloat(value, 64); err == nil && l.GetName() == model.BucketLabel {
			value = fmt.Sprint(bound)
		}
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), value))
	}
	sort.Strings(pairs)
	return "{" + strings.Join(pairs, ",") + "}"
}

// sameSums returns how a peer's samples differ from ours, and nil when they do not.
func sameSums(w work, want, got map[string]float64) error {
	per := w.samples()
	if len(want) != w.Series*per {
		return fmt.Errorf("%d samples instead of %d", len(want), w.Series*per)
	}
	for key, v := range want {
		other, ok := got[key]
		if !ok {
			return fmt.Errorf("%s is missing", key)
		}
		if math.Abs(v-other) > tolerance*math.Abs(v) {
			return fmt.Errorf("%s is %v and not %v", key, other, v)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d samples instead of %d", len(got), len(want))
	}
	return nil
}
