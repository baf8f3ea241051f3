package shmstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNamesInOrder(t *testing.T) {
	var names []string
	for _, e := range inOrder([]entry{{"3-c.shm", 3}, {"2-b.shm", 2}, {"3-c.shm", 3}, {"2-b.shm", 2}, {"1-a.shm", 1}}) {
		names = append(names, e.name)
	}
	assert.Equal(t, []string{"1-a.shm", "2-b.shm", "3-c.shm"}, names)
	for name, is := range map[string]bool{"1-a.shm": true, "lock": false, "archive.old": false, ".2-b.shm": false, "archive": false} {
		assert.Equal(t, is, isFileName([]byte(name)), name)
	}
}
