package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/shmstore"
)

// find returns the store that the flags name, or when they name none the one store that can be meant: the only one of this
// user in the default place, or the only one there that has a master. named reports whether it was named.
func (f *storeFlags) find(verb string) (path string, named bool, err error) {
	if path, err := f.chosen(); path != "" || err != nil {
		return path, true, err
	}
	prefix, _ := shmstore.DefaultPath("")
	pattern := prefix + "*"
	stores, err := filepath.Glob(pattern)
	if err != nil {
		return "", false, err
	}
	var mastered []string
	for _, s := range stores {
		if pid, _, err := masterOf(s); err == nil && pid != 0 {
			mastered = append(mastered, s)
		}
	}
	switch {
	case len(mastered) == 1:
		return mastered[0], false, nil
	case len(mastered) > 1:
		stores = mastered
	case len(stores) == 0 && full(prefix):
		return "", false, fmt.Errorf("there is no store at %s; %s", pattern, fullHelp)
	case len(stores) == 0:
		return "", false, fmt.Errorf("there is no store at %s; give --store.path DIR", pattern)
	}
	if len(stores) > 1 {
		return "", false, usageError{fmt.Errorf("which service? Type one of: %s", commandLines(verb, stores))}
	}
	return stores[0], false, nil
}

// commandLines returns the command line that names each of several stores.
func commandLines(verb string, stores []string) string {
	var lines []string
	for _, store := range stores {
		pid, _, _ := masterOf(store)
		s := serviceOf(store, pid)
		line := typed() + " " + withFlag(verb, s.flag())
		if pid != 0 {
			line += fmt.Sprintf(" (pid %d, %s)", pid, s.command)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// withFlag puts a flag behind the first word of a command.
func withFlag(verb, flag string) string {
	name, arguments, more := strings.Cut(verb, " ")
	if !more {
		return name + " " + flag
	}
	return name + " " + flag + " " + arguments
}

// usageError is an error of who typed the command, whose exit status is 2.
type usageError struct{ error }

// masterOf returns the pid of the store's master, 0 for none, and the status that it, or else the last one, wrote.
func masterOf(path string) (int, []byte, error) {
	dir, err := shmstore.OpenDir(path, shmstore.DirOptions{})
	if errors.Is(err, fs.ErrNotExist) && full(path) {
		return 0, nil, fmt.Errorf("%w on %s: %w; %s", errNoMaster, path, err, fullHelp)
	}
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
