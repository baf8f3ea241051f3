package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// confirm asks on a terminal whether a service that nobody has named is meant. Without a terminal, or with an answer other
// than yes, it returns a usageError with the command line that names the service.
func confirm(verb string, s service) error {
	line := typed() + " " + withFlag(verb, s.flag())
	if !isTerminal(os.Stdin) || !isTerminal(os.Stdout) {
		return usageError{fmt.Errorf("%s is the only service that was found, and nobody named it: type %s", s, line)}
	}
	fmt.Printf("%s %s? [y/N] ", verb, s)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return usageError{fmt.Errorf("nothing was done; another service is named by --service NAME or --store.path DIR, this one by %s",
		s.flag())}
}

// isTerminal reports whether a file is a terminal. /dev/null, a character device too, is none.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), termiosRequest)
	return err == nil
}
