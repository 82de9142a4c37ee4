package stages

import (
	"os"
	"path/filepath"

	"cleanroom/executor/detach"
)

// refill starts a process that makes rooms for jobs to come, and outlives this
// one.
func (p Program) refill() error {
	args := []string{"pool", "fill", "--detached"}
	config := p.Config
	if config == "" {
		config = os.Getenv("CLEANROOM_CONFIG")
	}
	if config != "" {
		path, err := filepath.Abs(config)
		if err != nil {
			return err
		}
		args = append(args, "--config", path)
	}
	return detach.Start(Beside(Admin), args, os.Environ())
}
