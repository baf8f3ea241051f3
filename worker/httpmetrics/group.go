package httpmetrics

// GroupBy is what the duration is grouped by: a label of its own, next to method and status. Value is called when the
// handler has returned, and is a label function as Label.Func is one, with at most 1,000 values.
type GroupBy struct {
	Label string
	Value func(*Exchange) string

	bounded bool // the values are the program's, so none is left out
}

// unmatched is the group of what no route matched.
const unmatched = "unmatched"

var (
	// ByRoute groups by the pattern of the route, without method and host, under the label "path": "/job/{kind}". What no
	// route matched is "unmatched".
	ByRoute = GroupBy{Label: "path", bounded: true, Value: func(e *Exchange) string {
		if e.Route == "" {
			return unmatched
		}
		return e.Route
	}}
	// ByPath groups by the path of the URL, as prometheus_flask_exporter does by default: "/job/clean". Whoever sends
	// requests decides how many paths there are; beyond 1,000 they are "other".
	ByPath = GroupBy{Label: "path", Value: func(e *Exchange) string { return e.Path }}
)
