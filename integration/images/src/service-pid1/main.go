// service-pid1 refuses to run as anything but process 1, and then answers on the port that its image exposes.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if pid := os.Getpid(); pid != 1 {
		fmt.Fprintf(os.Stderr, "service-pid1: must be process 1, but is process %d\n", pid)
		os.Exit(1)
	}
	// Nobody is killed by default as process 1.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-stop; os.Exit(0) }()

	l, err := net.Listen("tcp", ":9998")
	if err != nil {
		fmt.Fprintln(os.Stderr, "service-pid1:", err)
		os.Exit(1)
	}
	fmt.Println("listening on port 9998 as process 1")
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "service-pid1:", err)
			os.Exit(1)
		}
		fmt.Fprintln(c, "hello from process 1")
		c.Close()
	}
}
