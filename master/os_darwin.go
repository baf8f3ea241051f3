package master

import "os"

// self is this program's executable.
func self() (string, error) { return os.Executable() }

// clearSignalMask does nothing: the master blocks no signals here.
func clearSignalMask() {}
