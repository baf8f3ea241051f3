package master

import (
	"errors"

	"golang.org/x/sys/unix"
)

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	steerable       = true
	steeringMissing = ""
)

// Offsets by which classic BPF asks the kernel instead of reading the packet (linux/filter.h); x/sys has none of them.
const (
	skfAdOff    = -0x1000
	skfAdRandom = 56
)

// maxTargets is how many sockets one program can choose from: two instructions each, of at most 4,096.
const maxTargets = 2000

// attach is attachProgram, but for tests of a kernel that refuses it.
var attach = attachProgram

// attachProgram replaces the program of fd's group.
func attachProgram(fd int, prog []unix.SockFilter) error {
	if len(prog) == 0 {
		return errors.New("master: steer: too many sockets for one program")
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// steeringProgram returns, by a random number, one of the indexes: load it, take it modulo their number, and for each
// remainder a branch that returns a constant. nil when there are none or too many.
func steeringProgram(indexes []int) []unix.SockFilter {
	n := len(indexes)
	if n == 0 || n > maxTargets {
		return nil
	}
	random := skfAdOff + skfAdRandom
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(int32(random))},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
	}
	for i, index := range indexes[:n-1] {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(i)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(index)})
	}
	return append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(indexes[n-1])})
}
