package master

import (
	"fmt"
	"strings"
)

// holder is a process that has a socket on an address.
type holder struct {
	pid   int
	start uint64 // see processID
	name  string
	ours  bool // its environment names this store, so it may be a worker of a master that has gone
}

// holderText names the holders for an error.
func holderText(hs []holder) string {
	if len(hs) == 0 {
		return "another process"
	}
	var names []string
	for _, h := range hs {
		names = append(names, fmt.Sprintf("pid %d (%s)", h.pid, h.name))
	}
	return strings.Join(names, ", ")
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
