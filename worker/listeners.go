package worker

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is the descriptor of the first socket that a supervisor passes on, by systemd's convention.
const firstFD = 3

// socketEnv is what the environment says about inherited sockets: LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES.
type socketEnv struct{ fds, pid, names string }

// takeSocketEnv reads the variables and removes them: the sockets are this process's and not its children's.
func takeSocketEnv() socketEnv {
	return socketEnv{fds: takeEnv("LISTEN_FDS"), pid: takeEnv("LISTEN_PID"), names: takeEnv("LISTEN_FDNAMES")}
}

// count returns how many sockets are for the process pid. The variables of another process are not its business, unless
// a master started this one (supervised): then something forked in between, and the sockets were lost on the way.
func (e socketEnv) count(pid int, supervised bool) (int, error) {
	if e.fds == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(e.fds)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("worker: LISTEN_FDS=%q is no number of sockets", e.fds)
	}
	if e.pid == strconv.Itoa(pid) {
		return n, nil
	}
	if supervised && n > 0 {
		return 0, fmt.Errorf("worker: the sockets are for process %s and this is process %d: the command forks before "+
			"it listens; in a shell script start the server with exec", e.pid, pid)
	}
	return 0, nil
}

// name returns the name of the i-th socket; "unknown" where none was given, as sd_listen_fds_with_names has it.
func (e socketEnv) name(i int) string {
	if names := strings.Split(e.names, ":"); e.names != "" && i < len(names) && names[i] != "" {
		return names[i]
	}
	return "unknown"
}

// namedListener is a listener under the name that Listener takes.
type namedListener struct {
	net.Listener
	name string
}

// inherit makes listeners of the n sockets that begin at descriptor first. Each is duplicated, and the original closed,
// so that the runtime's poller owns the only one.
func inherit(e socketEnv, first, n int) ([]namedListener, error) {
	var out []namedListener
	for i := range n {
		fd, name := first+i, e.name(i)
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), name)
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("worker: inherited socket %d (%s) is no listening stream socket: %w", fd, name, err)
		}
		out = append(out, namedListener{l, name})
	}
	return out, nil
}

// listen opens the addresses itself, for a process that no supervisor gave sockets: host:port, unix:PATH or name=ADDR.
func listen(ctx context.Context, addrs []string) ([]namedListener, error) {
	var (
		lc  net.ListenConfig
		out []namedListener
	)
	lc.SetMultipathTCP(false)
	for _, a := range addrs {
		name, addr := "unknown", a
		if before, after, ok := strings.Cut(a, "="); ok && !strings.HasPrefix(a, "unix:") {
			name, addr = before, after
		}
		network := "tcp"
		if path, ok := strings.CutPrefix(addr, "unix:"); ok {
			network, addr = "unix", path
		}
		l, err := lc.Listen(ctx, network, addr)
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("worker: %w", err)
		}
		out = append(out, namedListener{l, name})
	}
	return out, nil
}

func closeAll(ls []namedListener) {
	for _, l := range ls {
		l.Close()
	}
}
