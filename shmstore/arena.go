package shmstore

// arena is memory for the label values of many series that a reader finds at once: a few large pieces instead of two for
// each series. The zero arena gives each series memory of its own, which is freed with the series.
type arena struct {
	left   int // series that are yet to come
	bytes  []byte
	values []string
}

// The largest size of a piece, unless one series needs more.
const (
	arenaBytes   = 32 << 10
	arenaStrings = 2 << 10
)

// text returns b as a string.
func (s *arena) text(b []byte) string {
	if s.left == 0 {
		return string(b)
	}
	if len(b) > cap(s.bytes)-len(s.bytes) {
		s.bytes = make([]byte, 0, max(len(b), min(len(b)*s.left, arenaBytes)))
	}
	n := len(s.bytes)
	s.bytes = append(s.bytes, b...)
	return stringOf(s.bytes[n:])
}

// strings returns n empty strings. It is the last call for a series.
func (s *arena) strings(n int) []string {
	if s.left == 0 {
		return make([]string, n)
	}
	if n > len(s.values) {
		s.values = make([]string, max(n, min(n*s.left, arenaStrings)))
	}
	values := s.values[:n:n]
	s.values = s.values[n:]
	s.left--
	return values
}
