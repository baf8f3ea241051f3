package ruby_test

import (
	"log"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
)

func ExampleOpen() {
	dir, err := ruby.Open("/run/app/metrics", map[string]ruby.Definition{
		"jobs_waiting": {Help: "Jobs that wait."},
	}, foreign.Options{})
	if err != nil {
		log.Print(err)
		return
	}
	store, err := aggregate.Open("", aggregate.Options{Foreign: []*foreign.Dir{dir}})
	if err != nil {
		log.Print(err)
		return
	}
	defer store.Close()
}
