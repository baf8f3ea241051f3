package clientpython_test

import (
	"log"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/clientpython"
	"github.com/onescrape/onescrape/shmstore/foreign"
)

func ExampleOpen() {
	dir, err := clientpython.Open("/run/app/metrics", foreign.Options{})
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
