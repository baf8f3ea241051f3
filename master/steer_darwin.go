package master

import "errors"

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	steerable       = false
	steeringMissing = "this system has no steering: its workers share one socket"
)

type instruction struct{}

func attach(int, []instruction) error     { return errors.New(steeringMissing) }
func steeringProgram([]int) []instruction { return nil }

// compare does nothing: each address has one socket here.
func (g *group) compare() (bool, error) { return false, nil }
