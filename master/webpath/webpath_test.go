package webpath

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCheck(t *testing.T) {
	for path, reason := range map[string]string{
		"":            "must begin with a /",
		"metrics":     "must begin with a /",
		"/{":          "cannot have",
		"/{x}":        "cannot have",
		"/{$}":        "cannot have",
		"/a b":        "cannot have",
		"/a\tb":       "cannot have",
		"/a?b":        "cannot have",
		"/a#b":        "cannot have",
		"/a%20b":      "cannot have",
		"/ä":          "cannot have",
		"/a//b":       `give "/a/b"`,
		"/a/../b":     `give "/b"`,
		"/a/./":       `give "/a/"`,
		"/-/ready":    "is taken",
		"/":           "is taken",
		"/metrics":    "",
		"/metrics/":   "",
		"/a/b.c_d~e-": "",
		"/-/other":    "",
		"/a:b@c(d)*":  "",
	} {
		err := Check(path, "/", "/-/ready")
		if reason != "" {
			assert.ErrorContains(t, err, reason, path)
			continue
		}
		assert.NoError(t, err, path)
		mux := http.NewServeMux()
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		assert.Equal(t, http.StatusTeapot, w.Code, path)
	}
}
