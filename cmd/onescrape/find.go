package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/shmstore"
)

// findStore returns path, or when it is empty the one store that can be meant: the only one of this user in the default
// place, or the only one there that has a master.
func findStore(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	prefix, _ := shmstore.DefaultPath("")
	pattern := prefix + "*"
	stores, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	var mastered []string
	for _, s := range stores {
		if pid, _, err := masterOf(s); err == nil && pid != 0 {
			mastered = append(mastered, s)
		}
	}
	switch {
	case len(mastered) == 1:
		return mastered[0], nil
	case len(mastered) > 1:
		stores = mastered
	case len(stores) == 0:
		return "", fmt.Errorf("there is no store at %s; give --store.path DIR", pattern)
	}
	if len(stores) > 1 {
		return "", fmt.Errorf("which store? Give --store.path, one of %s", strings.Join(stores, " "))
	}
	return stores[0], nil
}

// masterOf returns the pid of the store's master, 0 for none, and the status that it, or else the last one, wrote.
func masterOf(path string) (int, []byte, error) {
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{})
	if err != nil {
		return 0, nil, err
	}
	defer dir.Close()
	return dir.Master()
}

// errNoMaster is what every command answers that needs one.
var errNoMaster = errors.New("no master runs")

// readStatus returns what the store's master says of itself. With none it returns errNoMaster, and the last one's.
func readStatus(path string) (master.Status, error) {
	var s master.Status
	pid, text, err := masterOf(path)
	if err != nil {
		return s, err
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &s); err != nil {
			return s, fmt.Errorf("status of %s: %w", path, err)
		}
	}
	if pid == 0 {
		return s, fmt.Errorf("%w on %s", errNoMaster, path)
	}
	// The lock's word, not the text's: the text of a master that has just started is the last one's.
	if s.PID != pid {
		s = master.Status{PID: pid, Store: path}
	}
	return s, nil
}
