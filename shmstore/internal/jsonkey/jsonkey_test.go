package jsonkey

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestScanner(t *testing.T) {
	s := New(` [ "a" , "\u00fcn\n\"i\"", ["x", 404, true, null], {"k": "v"} ] `)
	s.Take('[')
	assert.Equal(t, "a", s.String())
	s.Take(',')
	assert.Equal(t, "ün\n\"i\"", s.String())
	s.Take(',')
	assert.Equal(t, []string{"x", "404", "true", ""}, s.Strings(s.Text))
	s.Take(',')
	s.Take('{')
	assert.False(t, s.Next('}'))
	assert.Equal(t, "k", s.String())
	s.Take(':')
	assert.Equal(t, "v", s.String())
	s.Take('}')
	assert.False(t, s.Good(), "something is left")
	s.Take(']')
	assert.True(t, s.Good())

	for _, wrong := range []string{``, `"`, `"a`, `a`, `"\`, `"\x"`, "\"a\nb\"", `404`} {
		s := New(wrong)
		assert.Empty(t, s.String())
		assert.False(t, s.Good(), wrong)
	}
	for _, wrong := range []string{`[`, `["a"`, `["a",]`, `["a" "b"]`, `[1 2]`, `[01]`, `[nul]`, `[{"a":1}]`, `[[1]]`} {
		s := New(wrong)
		s.Strings(s.Text)
		assert.False(t, s.Good(), wrong)
	}
}

// FuzzString compares a string with what encoding/json makes of it.
func FuzzString(f *testing.F) {
	for _, seed := range []string{`"a"`, `"\ud83d\ude00"`, `"\ud800"`, `"a\\"`, `"\""`, `"a" `, `"\/"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip()
		}
		var want string
		err := json.Unmarshal([]byte(text), &want)
		s := New(text)
		got := s.String()
		if err != nil || text == "null" {
			assert.False(t, s.Good(), text)
			return
		}
		assert.True(t, s.Good(), text)
		assert.Equal(t, want, got)
	})
}
