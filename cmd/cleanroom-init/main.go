// Command cleanroom-init is PID 1 of every container of a room. Without
// arguments (an ENTRYPOINT like ["/bin/sh","-c"] gets it as its one word) it
// serves the driver; the other commands are for the engine's exec:
//
//	cleanroom-init                          serve
//	cleanroom-init dial                     join stdin and stdout to the socket
//	cleanroom-init check                    run the health check that stdin holds
//	cleanroom-init own UID GID MODE PATH... give folders an owner and a mode
//	cleanroom-init version
//
// As cleanroom-mask it is a command for jobs: have a value hidden (mask.go).
//
// It promises that a stage leaves no process behind, that its exit status is
// the shell's, and that neither a job that forks without end nor one that
// opens a thousand connections takes init down. It is static and needs
// nothing of the image but a shell.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"cleanroom/sandbox/initproto"
)

// Set with -ldflags -X: the version by the build, the folders by tests only,
// so that nothing inside a container can move them.
var (
	version  = "dev"
	runDir   = initproto.RunDir
	initPath = initproto.InitPath
)

// Exit statuses besides those of what was executed.
const (
	exitUsage      = 2
	exitNotFound   = 127
	exitTerminated = 143
)

func main() {
	if filepath.Base(os.Args[0]) == initproto.MaskName {
		os.Exit(maskCommand(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		return serve()
	}
	switch {
	case args[0] == "dial" && len(args) == 1:
		return report(dial(os.Stdin, os.Stdout))
	case args[0] == "check" && len(args) == 1:
		return report(check(os.Stdin))
	case args[0] == "own" && len(args) > 4:
		return report(own(args[1], args[2], args[3], args[4:]))
	case args[0] == "version" && len(args) == 1:
		fmt.Println(version)
		return 0
	}
	fmt.Fprintln(os.Stderr, "usage: cleanroom-init [dial | check | own UID GID MODE PATH... | version]")
	return exitUsage
}

func report(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "cleanroom-init:", err)
	return 1
}
