// Package webpath checks a path of a URL on which a program is told to serve something.
package webpath

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Check returns an error when an http.ServeMux could not serve exactly the path: it is no clean path, has what would be a
// wildcard or a method to the mux, or is one of taken.
func Check(p string, taken ...string) error {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("%q must begin with a /", p)
	case strings.ContainsFunc(p, refused):
		return fmt.Errorf("%q has a character that the path of a URL cannot have as it is: use letters, digits and any of "+
			"/ . _ ~ -, as in /metrics", p)
	case p != clean:
		return fmt.Errorf("%q is not what clients ask for: give %q", p, clean)
	case slices.Contains(taken, p):
		return fmt.Errorf("%s is taken by the endpoint itself: name another", p)
	}
	return nil
}

// refused reports whether RFC 3986 allows a character in a path only as %XX. The % is refused too, because a mux compares
// the decoded path.
func refused(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("/-._~!$&'()*+,;=:@", r)
}
