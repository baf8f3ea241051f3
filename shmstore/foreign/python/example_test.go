package python_test

import (
	"log"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
)

func ExampleOpen() {
	dir, err := python.Open("/run/app/metrics", foreign.Options{})
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
