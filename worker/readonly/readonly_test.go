package readonly

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHandlerRefusesOtherMethods(t *testing.T) {
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) }))
	for method, code := range map[string]int{
		"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "PATCH": 405, "DELETE": 405, "TRACE": 405, "OPTIONS": 405,
		"CONNECT": 405, "get": 405, "ANY": 405,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		require.Equal(t, code, w.Code, method)
		if code == http.StatusMethodNotAllowed {
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
			require.Equal(t, "Method not allowed: use GET or HEAD.\n", w.Body.String())
		}
	}
}
