package master

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndpointAnswersOnlyGetAndHead(t *testing.T) {
	m := startMaster(t, options{"Workers": 1})
	base := "http://" + m.status().Metrics
	for _, path := range []string{"/metrics", "/-/healthy", "/-/ready", "/api/v1/status", "/"} {
		for method, code := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "TRACE": 405, "DELETE": 405} {
			r, err := http.NewRequest(method, base+path, nil)
			require.NoError(t, err)
			answer, err := m.client.Do(r)
			require.NoError(t, err)
			answer.Body.Close()
			require.Equal(t, code, answer.StatusCode, "%s %s", method, path)
		}
	}
}
