package sdnotify

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// strays closes the descriptors that come with the datagrams of one Receiver. Any local user can send some, and
// close(2) of what a stranger made can take as long as the stranger likes: a file of a FUSE file system for instance, or a
// TCP socket with SO_LINGER. So each datagram's are closed in a goroutine of its own. At most maxClosers of those run at a
// time, for each of them may keep a thread. The zero value is ready; close may be called by one goroutine only.
type strays struct {
	mu      sync.Mutex
	running int       // guarded by mu
	late    []int     // what waits for a goroutine, guarded by mu
	freed   chan bool // has room for one: a goroutine has ended; made by close
	stuck   bool      // close's
}

const (
	maxClosers = 8
	// closeWait is how long a datagram's descriptors wait for a goroutine until the goroutines are taken to be stuck.
	closeWait = 100 * time.Millisecond
)

// close has the descriptors closed. It waits at most closeWait, once. It returns false when no more descriptors should be
// accepted, because closing those that came takes for ever.
func (s *strays) close(fds []int) bool {
	if len(fds) == 0 {
		return true
	}
	for _, fd := range fds {
		// Nobody else has the socket if this is what closes it, so nobody sets it again.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	}
	if s.freed == nil {
		s.freed = make(chan bool, 1)
	}
	for !s.start(fds) {
		if s.stuck {
			s.mu.Lock()
			s.late = append(s.late, fds...)
			s.mu.Unlock()
			return false
		}
		select {
		case <-s.freed:
		case <-time.After(closeWait):
			s.stuck = true
		}
	}
	return true
}

// start begins to close the descriptors in a goroutine of its own; false when there are enough of them.
func (s *strays) start(fds []int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == maxClosers {
		return false
	}
	s.running++
	go s.run(fds)
	return true
}

func (s *strays) run(fds []int) {
	for more := true; more; fds, more = s.next() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	select {
	case s.freed <- true:
	default:
	}
}

// next returns what else there is to close; false when there is nothing, and the goroutine that asks ends.
func (s *strays) next() (fds []int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fds, s.late = s.late, nil
	if len(fds) == 0 {
		s.running--
	}
	return fds, len(fds) > 0
}
