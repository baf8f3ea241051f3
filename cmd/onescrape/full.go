package main

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fullHelp says why a master may run that cannot be found.
const fullHelp = "the file system is full: a master that finds no space for the store runs without it and no command finds it; " +
	"make space, or send the signal to its pid (kill -HUP PID for a reload, -USR2 for an upgrade, -TERM for a stop)"

// storeNeeds is how many bytes a store without workers takes.
const storeNeeds = 16 << 10

// full reports whether the file system of a path, or of the directory above when there is nothing at the path, has no
// space for a store.
func full(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil && unix.Statfs(filepath.Dir(path), &st) != nil {
		return false
	}
	return st.Bavail*uint64(st.Bsize) < storeNeeds || st.Files > 0 && st.Ffree == 0
}
