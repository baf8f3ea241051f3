package master_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
)

var hello = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "hello\n") })

func ExampleRun() {
	err := master.Run(master.Config{Listen: []string{":8080"}}, func(_ context.Context, w *worker.Worker) error {
		return w.Serve(&http.Server{Handler: hello})
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Workers can be processes of another program, in any language.
func ExampleRun_command() {
	err := master.Run(master.Config{
		Listen:  []string{"127.0.0.1:8000"},
		Command: []string{"gunicorn", "--workers", "1", "app:app"},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
}

// What is done once is left to the master.
func ExampleIsWorker() {
	if !master.IsWorker() {
		log.Print("the service starts")
	}
}

// A server that starts its own workers: the master listens, and each child inherits the listener as descriptor 3.
func ExampleEmbed() {
	store, err := master.Embed("", aggregate.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if store == nil { // a child
		listener, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			log.Fatal(err)
		}
		log.Fatal(http.Serve(listener, hello))
	}
	defer store.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		log.Fatal(err)
	}
	for slot := range 4 {
		child := exec.Command(os.Args[0])
		child.ExtraFiles = []*os.File{file}
		child.Env = append(os.Environ(), "ONESCRAPE_SLOT="+strconv.Itoa(slot))
		if err := child.Start(); err != nil {
			log.Fatal(err)
		}
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:9464", store.Handler(aggregate.HandlerOptions{})))
}
