package stages

import (
	"os"
	"path/filepath"

	"cleanroom/executor/detach"
)

// Detached has cleanroom-admin run a command with the same configuration file,
// if any, in a process that outlives this one.
func Detached(config string, command ...string) error {
	args := append(command, "--detached")
	if config != "" {
		path, err := filepath.Abs(config) // it starts in another folder
		if err != nil {
			return err
		}
		args = append(args, "--config", path)
	}
	return detach.Start(Beside(Admin), args, os.Environ())
}
