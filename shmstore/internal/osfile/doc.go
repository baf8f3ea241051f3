// Package osfile is what the store asks of the operating system about files: space, names, locks, the clock that all processes
// of a boot share, and which boot it is. Linux and Darwin differ only here.
package osfile
