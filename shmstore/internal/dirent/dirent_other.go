//go:build !linux

// Package dirent lists directories with the inodes of their entries, where the system tells them.
package dirent

import "os"

// Each calls do with the name of each entry of an open directory, from its position on, and no inode. The name is valid
// during the call only.
func Each(dir *os.File, do func(name []byte, inode uint64)) error {
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		do([]byte(name), 0)
	}
	return err
}
