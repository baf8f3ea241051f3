package worker

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

// checkExemplar panics, in client_golang's words, when these cannot be an exemplar's labels. nil is no exemplar.
func checkExemplar(labels prometheus.Labels) {
	runes := 0
	for name, value := range labels {
		if !model.UTF8Validation.IsValidLabelName(name) || strings.HasPrefix(name, model.ReservedLabelPrefix) {
			panic(fmt.Errorf("exemplar label name %q is invalid", name))
		}
		if !utf8.ValidString(value) {
			panic(fmt.Errorf("exemplar label value %q is not valid UTF-8", value))
		}
		runes += utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
	}
	if runes > prometheus.ExemplarMaxRunes {
		panic(fmt.Errorf("exemplar labels have %d runes, exceeding the limit of %d", runes, prometheus.ExemplarMaxRunes))
	}
}
