// Package readonly restricts HTTP handlers to the methods that only read.
package readonly

import "net/http"

// Handler returns h for GET and HEAD. It answers other methods with 405 and an Allow header.
func Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "Method not allowed: use GET or HEAD.", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}
