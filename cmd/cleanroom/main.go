// Command cleanroom is a driver for GitLab Runner's custom executor: it gives
// every CI job a clean room of containers and wipes it afterwards.
//
// The runner starts it some ten times for a job, so it loads no more than most
// calls need. Everything else, the admin's commands too, is cleanroom-admin's,
// which it finds beside itself and puts in its own place: to whoever calls they
// are one program.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"cleanroom/cmd/internal/stages"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "0.1.0-dev"

func main() {
	stages.NoCrashDump()
	if slices.Equal(os.Args[1:], []string{"--version"}) { // as cobra says it; by it doctor knows us
		fmt.Println("cleanroom version", version)
		return
	}
	handOver := func() error { return stages.HandOver(version) }
	stage, args, config, ok := parse(os.Args[1:])
	if !ok {
		stages.End(handOver())
	}
	p := stages.Program{Version: version, Config: config, Out: os.Stdout, HandOver: handOver}
	stages.End(p.Serve(context.Background(), stage, args))
}

// parse reads the command line of a stage. What is anything else, or wrong, is
// cleanroom-admin's to read: not ok.
func parse(words []string) (stage stages.Stage, args []string, config string, ok bool) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		value, given := strings.CutPrefix(word, "--config=")
		switch {
		case given:
			config = value
		case word == "--config" && len(words) > 0:
			config, words = words[0], words[1:]
		case len(word) > 1 && word[0] == '-':
			return stage, nil, "", false
		default:
			args = append(args, word)
		}
	}
	if len(args) > 0 {
		stage, ok = stages.Find(args[0])
		args = args[1:]
	}
	if config == "" {
		config = os.Getenv("CLEANROOM_CONFIG")
	}
	return stage, args, config, ok && len(args) == stage.Args
}
