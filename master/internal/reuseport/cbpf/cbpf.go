// Package cbpf interprets classic BPF programs that choose a socket, for tests: it knows the few instructions that these have.
package cbpf

import "golang.org/x/net/bpf"

// Run returns the index that a program chooses for a packet with a time to live, when the kernel's random number is random. The time to
// live is the only byte of a packet that is loaded. ok is false for an instruction that is not known and a program that does not return.
func Run(program []bpf.Instruction, random uint32, ttl uint8) (index int, ok bool) {
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		switch in := program[pc].(type) {
		case bpf.LoadExtension:
			if in.Num != bpf.ExtRand {
				return -1, false
			}
			a = random
		case bpf.LoadAbsolute:
			a = uint32(ttl)
		case bpf.ALUOpConstant:
			if in.Op != bpf.ALUOpMod || in.Val == 0 {
				return -1, false
			}
			a %= in.Val
		case bpf.JumpIf:
			switch {
			case in.Cond != bpf.JumpEqual:
				return -1, false
			case a == in.Val:
				pc += int(in.SkipTrue)
			default:
				pc += int(in.SkipFalse)
			}
		case bpf.RetConstant:
			return int(in.Val), true
		default:
			return -1, false
		}
	}
	return -1, false
}
