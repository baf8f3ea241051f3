package leftovers

import "syscall"

type processHandle struct{}

func openProcess(int) processHandle         { return processHandle{} }
func (processHandle) signal(syscall.Signal) {}
func (processHandle) close()                {}
