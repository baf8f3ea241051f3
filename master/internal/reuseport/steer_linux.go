package reuseport

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	Steerable       = true
	steeringMissing = ""
)

// maxTargets is how many sockets one program can choose from: two instructions each, of at most 4,096.
const maxTargets = 2000

// attach replaces the program of fd's group.
func attach(fd int, p []bpf.Instruction) error {
	if len(p) == 0 {
		return errors.New("master: steer: too many sockets for one program")
	}
	raw, err := bpf.Assemble(p)
	if err != nil {
		return fmt.Errorf("master: steer: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// steeringProgram returns, by a random number, one of the indexes: load it, take it modulo their number, and for each
// remainder a branch that returns a constant. nil when there are none or too many.
func steeringProgram(indexes []int) []bpf.Instruction {
	n := len(indexes)
	if n == 0 || n > maxTargets {
		return nil
	}
	p := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(n)},
	}
	for i, index := range indexes[:n-1] {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(i), SkipFalse: 1}, bpf.RetConstant{Val: uint32(index)})
	}
	return append(p, bpf.RetConstant{Val: uint32(indexes[n-1])})
}
