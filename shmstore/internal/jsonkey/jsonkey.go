// Package jsonkey reads the JSON texts by which libraries name the samples in their files. They are read by the hundred
// thousand, and nearly all consist of short strings without escapes, which here are parts of the text.
package jsonkey

import (
	"encoding/json"
	"strings"
)

// Scanner takes the tokens of one JSON text in their order. What it is asked for and does not find makes it bad, and
// everything that is asked later gives nothing. The text must be valid UTF-8.
type Scanner struct {
	rest string
	bad  bool
}

// New returns a Scanner at the beginning of a text.
func New(text string) *Scanner { return &Scanner{rest: text} }

// Good reports whether all that was asked for was found and nothing is left.
func (s *Scanner) Good() bool {
	s.space()
	return !s.bad && s.rest == ""
}

// Clean reports whether all that was asked for so far was found.
func (s *Scanner) Clean() bool { return !s.bad }

func (s *Scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

// Next reports whether the next token begins with c, which it takes: one of [ ] { } , and the colon.
func (s *Scanner) Next(c byte) bool {
	s.space()
	if s.bad || s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// Take is Next for a token that must come.
func (s *Scanner) Take(c byte) {
	if !s.Next(c) {
		s.bad = true
	}
}

// String takes a string.
func (s *Scanner) String() string {
	s.space()
	if s.bad || s.rest == "" || s.rest[0] != '"' {
		s.bad = true
		return ""
	}
	escaped := false
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			s.bad = true
			return ""
		case c == '"':
			token := s.rest[:i+1]
			s.rest = s.rest[i+1:]
			if !escaped {
				return token[1:i]
			}
			var text string
			if json.Unmarshal([]byte(token), &text) != nil {
				s.bad = true
			}
			return text
		}
	}
	s.bad = true
	return ""
}

// Text takes a string, or a number, true or false as it is written, or null as "".
func (s *Scanner) Text() string {
	s.space()
	if s.bad || s.rest == "" || s.rest[0] == '"' {
		return s.String()
	}
	end := strings.IndexAny(s.rest, ",]} \t\r\n")
	if end < 0 {
		end = len(s.rest)
	}
	token := s.rest[:end]
	s.rest = s.rest[end:]
	if token == "null" {
		return ""
	}
	if strings.ContainsAny(token, "[{:") || !json.Valid([]byte(token)) {
		s.bad = true
	}
	return token
}

// Strings takes a list of what item takes.
func (s *Scanner) Strings(item func() string) (list []string) {
	s.Take('[')
	for !s.bad && !s.Next(']') {
		if len(list) > 0 {
			s.Take(',')
		}
		list = append(list, item())
	}
	return list
}
