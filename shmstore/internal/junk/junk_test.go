package junk

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	errKind = errors.New("corrupt")
	errFile = fmt.Errorf("a file: %w", errKind)
)

func TestFewAreOpenedInEachLook(t *testing.T) {
	var m Memory
	for range 5 {
		m.Begin()
		for i := range 10 {
			name := fmt.Sprint(i)
			assert.False(t, m.Skip([]byte(name), 7))
			m.Add(name, 7, errFile, errKind)
		}
		m.End()
	}
	assert.Len(t, m.Broken(), 10)
	assert.Equal(t, uint64(10), m.Version())
	assert.Equal(t, errFile, m.Broken()["0"])
	m.Begin()
	assert.False(t, m.Skip([]byte("0"), 7))
	assert.True(t, m.Skip([]byte("0"), 7), "it was listed twice")
	m.Remove("0")
	m.End()
	assert.Empty(t, m.Broken(), "the others have gone")
}

func TestOfManySomeAreOpenedInEachLook(t *testing.T) {
	const files, looks = 10_000, 200
	var m Memory
	opened := map[string]int{}
	for look := range looks {
		m.Begin()
		n := 0
		for i := range files {
			name := fmt.Sprint(i)
			if m.Skip([]byte(name), uint64(i)) {
				continue
			}
			n++
			opened[name]++
			m.Add(name, uint64(i), errFile, errKind)
		}
		m.End()
		if look > 0 {
			assert.LessOrEqual(t, n, Retries)
		}
	}
	assert.Len(t, m.Broken(), files)
	assert.Equal(t, errKind, m.Broken()["9999"])
	for name, n := range opened {
		assert.Greater(t, n, 1, name)
	}
	m.Begin()
	assert.False(t, m.Skip([]byte("9999"), 1), "another file of that name")
}
