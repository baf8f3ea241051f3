// Package shmstore keeps the samples of a prefork server in files: one memory-mapped file per process, in one directory. A
// process writes only its own file, with atomic stores and nothing else; every process that may read the directory can read
// all files at any time. A reader never waits for a writer and cannot disturb one.
//
// A Writer makes one process's file, announces families and series in it and hands out their cells. A Reader follows one
// such file. Dir is the directory with its checks, its identity and its locks. What a sample means, and how those of many
// processes become one, is for package aggregate.
//
// The package promises that a value stored in a cell survives the death of the process, whatever kills it; that no broken
// file in the directory stops or crashes a reader; and that a full file system is an error of AddFamily, AddSeries or
// Create and never a fault. FORMAT.md beside the code draws every byte.
package shmstore
