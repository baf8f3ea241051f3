package master

import "errors"

// steerable says that a group of sockets can have a program; steeringMissing why not.
const (
	steerable       = false
	steeringMissing = "this system has no steering: its workers share one socket"
)

func attach(int, []int) error { return errors.New(steeringMissing) }
