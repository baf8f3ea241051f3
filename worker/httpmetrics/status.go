package httpmetrics

import (
	"net/http"
	"strconv"
)

// statusClientGone is nginx's, for an answer that reached nobody.
const statusClientGone = 499

// other is the value of what is left out of a label.
const other = "other"

// methods are HTTP's own and PATCH. The first stands for all the others.
var methods = [...]string{other, http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace}

// methodIndex returns a method's place among methods.
func methodIndex(method string) int {
	for i := 1; i < len(methods); i++ {
		if methods[i] == method {
			return i
		}
	}
	return 0
}

// maxStatus is the largest that net/http lets a handler write.
const maxStatus = 999

// statusText is the value of the label, as client_golang and Flask have it: the number.
func statusText(status int) string {
	if status < 0 || status > maxStatus {
		return other
	}
	return strconv.Itoa(status)
}

// outcome is method and status as one number, which is what children are looked up by.
func outcome(e *Exchange) uint32 {
	status := e.Status
	if status < 0 || status > maxStatus {
		status = maxStatus + 1
	}
	return uint32(methodIndex(e.Method))<<16 | uint32(status)
}
