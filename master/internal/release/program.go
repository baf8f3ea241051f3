package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Program is a command: the path of its file, made absolute, and its arguments with its name as the first.
type Program struct {
	Path string
	Args []string
}

var (
	ownMu sync.Mutex
	own   = called(os.Args) // guarded by ownMu
)

// Own returns how this program was called, read before it can change its directory: the name as it was typed, made absolute,
// with its symbolic links left as they are. It is looked up anew at every start of a worker and at an upgrade, so that a link
// that was switched to another release is followed.
func Own() Program {
	ownMu.Lock()
	defer ownMu.Unlock()
	return own
}

// SetOwnPath sets the path of this program as the master before it in the same process knew it. The arguments stay.
func SetOwnPath(path string) {
	ownMu.Lock()
	defer ownMu.Unlock()
	own.Path = path
}

func called(args []string) Program {
	if len(args) == 0 {
		args = []string{""}
	}
	path, err := absolute(args[0])
	if err != nil {
		path, _ = os.Executable()
	}
	return Program{Path: path, Args: args}
}

// absolute finds a command as a shell does and makes its path absolute.
func absolute(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(found)
}

// Find returns the program that a worker executes: the command, or this program where the command is empty. A command with a
// relative path is looked for in dir, if that is not "". The error says what to do.
func Find(command []string, dir string) (Program, error) {
	if len(command) == 0 {
		program := Own()
		if _, err := exec.LookPath(program.Path); err != nil {
			return Program{}, fmt.Errorf("master: this program is no longer at %s: %w: put it there again", program.Path, err)
		}
		return program, nil
	}
	name := command[0]
	if dir != "" && strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	path, err := absolute(name)
	if err != nil {
		return Program{}, fmt.Errorf("master: cannot run %q: %w: check the command's name, its path and whether it is "+
			"executable", command[0], err)
	}
	return Program{Path: path, Args: command}, nil
}
