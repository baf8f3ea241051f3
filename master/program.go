package master

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// program is how this program was called, read before it can change its directory: the name as it was typed, made
// absolute, with its symbolic links left as they are. It is looked up anew at every start of a worker and at an
// upgrade, so that a link that was switched to another release is followed.
var program = called(os.Args)

type call struct {
	path string
	args []string
}

func called(args []string) call {
	if len(args) == 0 {
		args = []string{""}
	}
	path, err := absolute(args[0])
	if err != nil {
		path, _ = os.Executable()
	}
	return call{path: path, args: args}
}

// absolute finds a command as a shell does and makes its path absolute.
func absolute(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(found)
}

// command returns what a worker is: the configured command or this program. A command with a relative path is looked for in
// dir, if that is not "". The error says what to do.
func (c Config) command(dir string) (call, error) {
	if len(c.Command) == 0 {
		if _, err := exec.LookPath(program.path); err != nil {
			return call{}, fmt.Errorf("master: this program is no longer at %s: %w: put it there again", program.path, err)
		}
		return program, nil
	}
	name := c.Command[0]
	if dir != "" && strings.Contains(name, "/") && !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	path, err := absolute(name)
	if err != nil {
		return call{}, fmt.Errorf("master: cannot run %q: %w: check the command's name, its path and whether it is "+
			"executable", c.Command[0], err)
	}
	return call{path: path, args: c.Command}, nil
}
