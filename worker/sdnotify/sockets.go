package sdnotify

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// FirstFD is the descriptor of the first socket.
const FirstFD = 3

// SocketVariables are the variables of socket activation.
var SocketVariables = [...]string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"}

// Sockets is what the environment says about inherited sockets.
type Sockets struct {
	FDs   string // LISTEN_FDS, how many
	PID   string // LISTEN_PID, whose
	Names string // LISTEN_FDNAMES, separated by colons
}

// TakeSockets reads the variables and removes them: the sockets belong to this process and not to its children.
func TakeSockets() Sockets {
	s := Sockets{FDs: os.Getenv("LISTEN_FDS"), PID: os.Getenv("LISTEN_PID"), Names: os.Getenv("LISTEN_FDNAMES")}
	for _, key := range SocketVariables {
		os.Unsetenv(key)
	}
	return s
}

// AreFor reports whether the sockets are for a process.
func (s Sockets) AreFor(pid int) bool { return s.PID == strconv.Itoa(pid) }

// Count returns how many sockets there are.
func (s Sockets) Count() (int, error) {
	if s.FDs == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s.FDs)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("LISTEN_FDS=%q is no number of sockets", s.FDs)
	}
	return n, nil
}

// Name returns the name of the i-th socket; "" when it has none.
func (s Sockets) Name(i int) string {
	if names := strings.Split(s.Names, ":"); i < len(names) {
		return names[i]
	}
	return ""
}
