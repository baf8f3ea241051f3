// Package integration holds the tests across processes: the built command line with real workers, real signals and real
// peers, under load. It exports nothing.
package integration
