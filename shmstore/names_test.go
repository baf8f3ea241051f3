package shmstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNamesAmong(t *testing.T) {
	assert.Equal(t, []string{"1-a.shm", "2-b.shm", "3-c.shm"}, namesAmong([]string{
		"lock", "3-c.shm", "2-b.shm", "archive.old", "3-c.shm", "2-b.shm", ".2-b.shm", "1-a.shm", "archive"}))
}
