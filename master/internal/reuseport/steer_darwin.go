package reuseport

import "errors"

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	Steerable       = false
	steeringMissing = "this system has no steering: its workers share one socket"
)

type instructions struct{}

func attach(int, instructions) error     { return errors.New(steeringMissing) }
func steeringProgram([]int) instructions { return instructions{} }

// Compare does nothing: each address has one socket here.
func (g *Group) Compare() (bool, error) { return false, nil }
