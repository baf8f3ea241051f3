package rubymmap_test

import (
	"log"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

func ExampleOpen() {
	dir, err := rubymmap.Open("/run/app/metrics", foreign.Options{})
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
