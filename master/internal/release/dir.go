package release

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many links a path may have, as in the kernel.
const maxLinks = 40

// ResolveDir returns the directory dir with its links resolved; "" where dir is "". A master of root refuses a link that
// somebody else could lead elsewhere: what lies there would run as root.
func ResolveDir(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	done, todo, links := "/", strings.Split(dir, "/"), 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		path := filepath.Join(done, name)
		info, err := os.Lstat(path)
		if err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", dir, err)
		}
		if info.Mode()&os.ModeSymlink == 0 {
			done = path
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("master: the workers' directory %s has too many links", dir)
		}
		if err := safeLink(done, path); err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", dir, err)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("master: the workers' directory %s: %w", dir, err)
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if info, err := os.Stat(done); err != nil || !info.IsDir() {
		return "", fmt.Errorf("master: the workers' directory %s: %s is no directory", dir, done)
	}
	return done, nil
}
