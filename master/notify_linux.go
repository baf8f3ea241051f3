package master

import (
	"crypto/rand"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// notifyName returns an abstract name: it needs no directory that can be written, leaves nothing behind, and survives
// the exec of an upgrade with its descriptor.
func notifyName() (string, error) {
	return "@onescrape/" + strconv.Itoa(os.Getpid()) + "/" + rand.Text(), nil
}

func forgetNotifyName(string) {}

// wantSender has the kernel say who sent each datagram.
func wantSender(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }

// receiveFrom takes one datagram and its sender's pid. Descriptors that came along (sd_notify's barrier waits for that)
// are closed. A datagram of another user is as good as empty.
func receiveFrom(fd int) (message string, sender int, err error) {
	buf, oob := make([]byte, 8192), make([]byte, 1024)
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return "", 0, err
	}
	controls, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, c := range controls {
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			for _, f := range fds {
				unix.Close(f)
			}
		}
		if cred, err := unix.ParseUnixCredentials(&c); err == nil {
			sender = int(cred.Pid)
			if int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
				return "", sender, nil
			}
		}
	}
	return string(buf[:n]), sender, nil
}
