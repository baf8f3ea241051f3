package master

import "os"

// self is this program's executable.
func self() (string, error) { return os.Executable() }
