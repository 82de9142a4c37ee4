// Command cleanroom-admin is all of cleanroom. The runner calls cleanroom, which
// puts this program in its own place for what is no stage of a job, and for
// stages that need rules, sources of secrets or the audit log.
package main

import (
	"cleanroom/cmd/internal/stages"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "0.1.0-dev"

func main() {
	stages.NoCrashDump()
	front, err := stages.Front(version)
	if err == nil {
		err = root(front).Execute()
	}
	stages.End(err)
}
