// Package foreign reads directories into which the processes of a server write their metrics with a client library of
// another language, one file for each process or more, so that package aggregate merges them as it merges our own
// files.
//
// What the libraries share is here: a file begins with a 4 byte number, how much of it is used, and 4 bytes that are
// not used; then entries follow, each the 4 byte length of a key, the key, padding to a multiple of 8 bytes, and one or
// two float64s, the value and the time when it was set. Everything is in the byte order of the machine. An entry is
// never removed and never changes its place; a new one is written before the used length says so. What names and keys
// mean is each library's own, see Library and the packages beside this one.
//
// A View parses the keys of a file once, when they appear. From then on it maps the file and reads values only, each as
// one load of 8 bytes, as the libraries themselves assume that they are written. A file that became shorter, or another
// of that name, is parsed anew. No file that is not as it should be makes more of an error than its own.
//
// # Compaction
//
// The libraries never remove what a dead process has counted, except gauges when the application says that a process has died.
// Dir.Compact takes the files of dead processes into an archive as package shmstore has one, in the hidden directory .onescrape
// of the directory itself: so all processes that compact the directory do so under one lock, every reader of the directory
// finds the one archive, and the libraries, which look for *.db or *.bin, do not see it. From then on only a View has
// everything.
//
// That a process is dead is never concluded from its pid, which may be used again, also in another pid namespace. The
// evidence is a write lease on the file (F_SETLEASE): the kernel grants it only when nobody else has the file open or
// mapped, through whichever name and in whichever namespace. A new process may open the file just then, because its pid
// was used before; so a file is not read and removed at once:
//
//  1. With the lease granted it is renamed into the hidden directory, under a name that no file ever had. It counts
//  2. Settle later it is leased again. If that is refused, somebody had: the file stays where it is and counts, whatever
//  3. The archive is written anew with what the file holds, and its name, and then the file is removed. A reader goes by
//
// A kill between any two of these leaves a state in which every value counts once. A live gauge of a process that is
// dead by the same evidence is left out at once.
package foreign
