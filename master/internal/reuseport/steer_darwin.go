package reuseport

import (
	"errors"

	"golang.org/x/net/bpf"
)

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	Steerable       = false
	steeringMissing = "this system has no steering: its workers share one socket"
)

func attach(int, []bpf.Instruction) error     { return errors.New(steeringMissing) }
func steeringProgram([]int) []bpf.Instruction { return nil }

// Compare does nothing: each address has one socket here.
func (g *Group) Compare() (bool, error) { return false, nil }
