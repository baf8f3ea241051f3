package shmstore

// slab is memory for the label values of many series that a reader meets at once: a few large pieces, where each series
// would have two of its own. The zero slab gives each series its own, which goes when the series does.
type slab struct {
	left   int // series that are yet to come
	bytes  []byte
	values []string
}

// How large a piece is at most, unless one series takes more.
const (
	slabBytes   = 32 << 10
	slabStrings = 2 << 10
)

// text returns b as a string.
func (s *slab) text(b []byte) string {
	if s.left == 0 {
		return string(b)
	}
	if len(b) > cap(s.bytes)-len(s.bytes) {
		s.bytes = make([]byte, 0, max(len(b), min(len(b)*s.left, slabBytes)))
	}
	n := len(s.bytes)
	s.bytes = append(s.bytes, b...)
	return stringOf(s.bytes[n:])
}

// strings returns n empty strings, the last that a series takes.
func (s *slab) strings(n int) []string {
	if s.left == 0 {
		return make([]string, n)
	}
	if n > len(s.values) {
		s.values = make([]string, max(n, min(n*s.left, slabStrings)))
	}
	values := s.values[:n:n]
	s.values = s.values[n:]
	s.left--
	return values
}
