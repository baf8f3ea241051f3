package sdnotify

import (
	"bytes"
	"crypto/rand"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// newName returns an abstract name: it needs no directory that can be written, leaves nothing behind, and survives
// the exec of an upgrade with its descriptor.
func newName() (string, error) {
	return "@onescrape/" + strconv.Itoa(os.Getpid()) + "/" + rand.Text(), nil
}

func forgetName(string) {}

// wantSender has the kernel say who sent each datagram.
func wantSender(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }

// MaxDescriptors is how many descriptors one datagram can carry (SCM_MAX_FD of the kernel).
const MaxDescriptors = 253

// datagramSize is how long a message may be; of a longer one the line that is cut off is left out.
const datagramSize = 8192

// receiveBuffer is what one receive needs. The room for descriptors is that for all of them: without it the kernel itself would
// close those that have no room, within the call, and a close may take its time.
type receiveBuffer struct {
	text    [datagramSize]byte
	control [4096]byte // more than credentials and MaxDescriptors need
}

var receiveBuffers = sync.Pool{New: func() any { return new(receiveBuffer) }}

// receiveFrom takes one datagram without waiting.
func receiveFrom(fd int) (d datagram, err error) {
	b := receiveBuffers.Get().(*receiveBuffer)
	defer receiveBuffers.Put(b)
	n, controlled, flags, _, err := unix.Recvmsg(fd, b.text[:], b.control[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return d, err
	}
	controls, _ := unix.ParseSocketControlMessage(b.control[:controlled])
	for _, c := range controls {
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			d.fds = append(d.fds, fds...)
		}
		if cred, err := unix.ParseUnixCredentials(&c); err == nil {
			d.pid, d.uid = int(cred.Pid), int(cred.Uid)
		}
	}
	text := b.text[:n]
	if flags&unix.MSG_TRUNC != 0 {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	d.text = string(text)
	return d, nil
}

// refuseDescriptors has the kernel refuse descriptors (Linux 6.16).
func refuseDescriptors(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0)
}
