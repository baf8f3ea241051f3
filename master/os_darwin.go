package master

import (
	"os"
)

// self is this program's executable.
func self() (string, error) { return os.Executable() }

// monotonicUsec is for systemd, which is not here.
func monotonicUsec() string { return "0" }
