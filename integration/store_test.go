package integration

import "github.com/onescrape/onescrape/shmstore"

// holder is the pid of the process that holds the lock of a store's master, 0 for none.
func holder(store string) (int, error) {
	dir, err := shmstore.OpenDir(store, shmstore.DirOptions{})
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	pid, _, err := dir.Master()
	return pid, err
}
