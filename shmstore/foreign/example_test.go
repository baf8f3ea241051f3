package foreign_test

import (
	"log"
	"net/http"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/shmstore/foreign"
	"github.com/onescrape/onescrape/shmstore/foreign/python"
	"github.com/onescrape/onescrape/shmstore/foreign/ruby"
	"github.com/onescrape/onescrape/shmstore/foreign/rubymmap"
)

// The directories of three client libraries as one scrape.
func Example() {
	python, err := python.Open("/run/app/python", foreign.Options{})
	if err != nil {
		log.Fatal(err)
	}
	mmap, err := rubymmap.Open("/run/app/mmap", foreign.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ruby, err := ruby.Open("/run/app/ruby", nil, foreign.Options{})
	if err != nil {
		log.Fatal(err)
	}
	store, err := aggregate.Open("", aggregate.Options{Foreign: []*foreign.Dir{python, mmap, ruby}})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	log.Fatal(http.ListenAndServe("127.0.0.1:9464", store.Handler(aggregate.HandlerOptions{})))
}
