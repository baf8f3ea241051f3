// Package listeners makes net.Listeners of the sockets that a process inherits, or of addresses that it opens itself.
package listeners

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/onescrape/onescrape/worker/sdnotify"
)

// Own returns how many sockets are for the process pid. It ignores the variables of another process, unless a master
// started this one (supervised): then something forked in between, and the sockets were lost on the way.
func Own(e sdnotify.Sockets, pid int, supervised bool) (int, error) {
	n, err := e.Count()
	switch {
	case err != nil:
		return 0, fmt.Errorf("worker: %w", err)
	case e.AreFor(pid):
		return n, nil
	case supervised && n > 0:
		return 0, fmt.Errorf("worker: the sockets are for process %s and this is process %d: the command forks before "+
			"it listens; in a shell script start the server with exec", e.PID, pid)
	}
	return 0, nil
}

// unnamed is the name of a socket that was given none, as sd_listen_fds_with_names has it.
const unnamed = "unknown"

// Named is a listener under the name that Listener takes.
type Named struct {
	net.Listener
	Name string
}

// Inherit makes listeners of the n sockets that begin at descriptor first. Each is duplicated, and the original closed,
// so that the runtime's poller owns the only one.
func Inherit(e sdnotify.Sockets, first, n int) ([]Named, error) {
	var out []Named
	for i := range n {
		fd, name := first+i, cmp.Or(e.Name(i), unnamed)
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), name)
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			CloseAll(out)
			return nil, fmt.Errorf("worker: inherited socket %d (%s) is no listening stream socket: %w", fd, name, err)
		}
		out = append(out, Named{l, name})
	}
	return out, nil
}

// Listen opens the addresses itself, for a process that no supervisor gave sockets: host:port, unix:PATH or name=ADDR.
func Listen(ctx context.Context, addrs []string) ([]Named, error) {
	var (
		lc  net.ListenConfig
		out []Named
	)
	lc.SetMultipathTCP(false)
	for _, a := range addrs {
		name, addr := unnamed, a
		if before, after, ok := strings.Cut(a, "="); ok && !strings.HasPrefix(a, "unix:") {
			name, addr = before, after
		}
		network := "tcp"
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, addr = "unix", path
		}
		l, err := lc.Listen(ctx, network, addr)
		if err != nil {
			CloseAll(out)
			return nil, fmt.Errorf("worker: %w", err)
		}
		out = append(out, Named{l, name})
	}
	return out, nil
}

// CloseAll closes the listeners.
func CloseAll(ls []Named) {
	for _, l := range ls {
		l.Close()
	}
}
