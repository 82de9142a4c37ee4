// service-silent says that it is starting, and never gets further: a service whose readiness nobody should wait
// for longer than they said, and whose last words belong into the job's log.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	fmt.Println("starting up, please wait")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
