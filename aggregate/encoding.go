package aggregate

import (
	"net/http"
	"strconv"
	"strings"
)

const acceptEncoding = "Accept-Encoding"

// withoutRefusals returns r without the encodings that its Accept-Encoding refuses by q=0. To promhttp a header with nothing
// but refusals is an error, which it logs before it answers without compression; without them it answers the same.
func withoutRefusals(r *http.Request) *http.Request {
	lines := r.Header[acceptEncoding]
	accepted, refused := []string(nil), false
	for _, line := range lines {
		for encoding := range strings.SplitSeq(line, ",") {
			if refuses(encoding) {
				refused = true
			} else {
				accepted = append(accepted, encoding)
			}
		}
	}
	if !refused {
		return r
	}
	changed := *r
	changed.Header = r.Header.Clone()
	changed.Header.Set(acceptEncoding, strings.Join(accepted, ","))
	return &changed
}

// refuses reports whether one element of an Accept-Encoding header has the weight 0.
func refuses(encoding string) bool {
	_, parameter, _ := strings.Cut(encoding, ";")
	name, weight, _ := strings.Cut(parameter, "=")
	q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
	return strings.TrimSpace(name) == "q" && err == nil && q == 0
}
