package httpmetrics

import (
	"net/http"
	"strings"
)

// nested is what an exchange knows of the routers that a request passes one after another. Each that gets a copy of the
// request, as http.StripPrefix makes one, writes its pattern to its own copy; a Wrap around such a router sees the copy.
type nested struct {
	request *http.Request // the innermost copy that a Wrap saw; nil: none but Exchange.Request
	given   string        // its pattern when the Wrap saw it
	prefix  string        // of the route: what the routers around have matched
}

// nest notes that another Wrap of the same Metrics saw the request, which may be a copy by then.
func (e *Exchange) nest(r *http.Request) {
	outer := e.nested.request
	if outer == nil {
		outer = e.Request
	}
	if outer == nil || outer == r {
		return
	}
	stripped, ok := strings.CutSuffix(outer.URL.Path, r.URL.Path)
	if !ok {
		return // the path was rewritten: what is behind it says nothing of the route
	}
	prefix, ok := firstSegments(routeOf(outer.Pattern), stripped)
	if !ok {
		return
	}
	e.nested = nested{request: r, given: r.Pattern, prefix: e.nested.prefix + prefix}
}

// route returns the route by the innermost request; "" when it does not know one.
func (n *nested) route() string {
	if n.request == nil || n.request.Pattern == n.given && n.prefix != "" {
		return "" // nothing behind the Wrap has routed
	}
	inner := routeOf(n.request.Pattern)
	if inner == "" {
		return ""
	}
	return n.prefix + inner
}

// firstSegments returns as many segments of a route as a path has, and whether the path matches them. So the prefix that
// was taken off a path becomes part of a route without the values of wildcards, of which there may be any number.
func firstSegments(route, path string) (prefix string, ok bool) {
	rest := route
	for path != "" {
		if path[0] != '/' || rest == "" || rest[0] != '/' {
			return "", false
		}
		var segment, want string
		segment, path = nextSegment(path)
		want, rest = nextSegment(rest)
		wildcard := len(want) > 3 && want[1] == '{' && !strings.HasSuffix(want, "...}") && want != "/{$}"
		if segment != want && (!wildcard || segment == "/") {
			return "", false
		}
	}
	return route[:len(route)-len(rest)], true
}

// nextSegment splits a path that begins with a slash before the next slash.
func nextSegment(path string) (segment, rest string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[:i+1], path[i+1:]
	}
	return path, ""
}

// servesBelow reports whether the handler of a route that stands for all paths below it has answered, and answered with
// something other than a file. What does so is likely to route by a pattern that cannot be seen.
func (e *Exchange) servesBelow() bool {
	if len(e.Route) < 2 || e.Route[len(e.Route)-1] != '/' || e.Request == nil || routeOf(e.Request.Pattern) != e.Route {
		return false
	}
	if strings.Count(e.Path, "/") < strings.Count(e.Route, "/") || strings.HasSuffix(e.Path, e.Route) {
		return false // just the route's own path
	}
	h := e.ResponseHeader()
	return h.Get("Last-Modified") == "" && h.Get("Accept-Ranges") == ""
}
