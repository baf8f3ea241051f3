package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"
	"go.yaml.in/yaml/v2"

	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

// foreignFlags are the directories of other client libraries.
type foreignFlags struct {
	python, rubyMmap, ruby []string
	definitions            string
	compact                bool
}

func (f *foreignFlags) add(cmd *kingpin.CmdClause) {
	cmd.Flag("python-dir", "Directory of client_python's multiprocess mode, PROMETHEUS_MULTIPROC_DIR; may be repeated.").
		PlaceHolder("DIR").StringsVar(&f.python)
	cmd.Flag("ruby-mmap-dir", "Directory of prometheus-client-mmap; may be repeated.").
		PlaceHolder("DIR").StringsVar(&f.rubyMmap)
	cmd.Flag("ruby-dir", "Directory of client_ruby's DirectFileStore; may be repeated.").
		PlaceHolder("DIR").StringsVar(&f.ruby)
	cmd.Flag("ruby-definitions", "YAML file that says of metrics of --ruby-dir what is not in the directory: by name type, "+
		"help, aggregation and buckets.").PlaceHolder("FILE").StringVar(&f.definitions)
	cmd.Flag("compact", "Take files of dead processes in these directories into an archive there. Then nothing else can "+
		"read them whole.").BoolVar(&f.compact)
}

// given reports whether there is any directory.
func (f *foreignFlags) given() bool { return len(f.python)+len(f.rubyMmap)+len(f.ruby) > 0 }

// open returns the directories.
func (f *foreignFlags) open(log *slog.Logger) (dirs []*foreign.Dir, err error) {
	definitions, err := readDefinitions(f.definitions)
	if err != nil {
		return nil, err
	}
	o := foreign.Options{Compact: f.compact, Logger: log}
	add := func(flag string, paths []string, open func(string) (*foreign.Dir, error)) {
		for _, path := range paths {
			d, e := open(path)
			if e != nil && err == nil {
				err = fmt.Errorf("--%s: %w", flag, e)
			}
			dirs = append(dirs, d)
		}
	}
	add("python-dir", f.python, func(path string) (*foreign.Dir, error) { return python.Open(path, o) })
	add("ruby-mmap-dir", f.rubyMmap, func(path string) (*foreign.Dir, error) { return rubymmap.Open(path, o) })
	add("ruby-dir", f.ruby, func(path string) (*foreign.Dir, error) { return ruby.Open(path, definitions, o) })
	return dirs, err
}

// readDefinitions reads the file of --ruby-definitions; none for "".
func readDefinitions(path string) (definitions map[string]ruby.Definition, err error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(b, &definitions)
	}
	if err != nil {
		return nil, fmt.Errorf("--ruby-definitions: %w", err)
	}
	return definitions, nil
}
