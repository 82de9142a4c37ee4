package stages

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/docker"
	"cleanroom/sandbox/docker/wire"
)

// maxPulled bounds the record of pulled images, in bytes: tens of thousands.
const maxPulled = 16 << 20

// OpenEngine is the engine of a configuration; unfit is told why a room has
// networks of the engine's where the configuration means it to have none.
func OpenEngine(c config.Config, unfit func(error)) (*docker.Engine, error) {
	subnet, _ := netip.ParsePrefix(c.Network.Subnet) // valid, or empty
	return docker.New(docker.Options{
		Host: c.Engine.Host, Runtime: c.Engine.Runtime, Transport: c.Engine.Transport,
		InitPath: InitPath(c), StateDir: c.StateDir, Timeout: c.Engine.Timeout,
		Pulled:       durable.Kept{Path: filepath.Join(c.DataDir, "images", "pulled.json"), Limit: maxPulled},
		RemovePulled: c.Images.Private == "remove",
		Wires:        wire.Net{Subnet: subnet}, Unfit: unfit,
	})
}

// InitPath is where the configuration says, or beside this program.
func InitPath(c config.Config) string {
	if c.Engine.InitPath != "" {
		return c.Engine.InitPath
	}
	return Beside("cleanroom-init")
}

// Beside is the path of a file beside this program.
func Beside(name string) string { return filepath.Join(filepath.Dir(Self()), name) }

// Self is the path of this program.
func Self() string {
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return self
}

// DriverLog is the admin's log. Without a file it is stderr where that is
// the runner's log (cleanup) and nothing where it is the job's.
func DriverLog(c config.Log, stage string) (*logrus.Logger, error) {
	log := logrus.New()
	level, err := logrus.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	log.SetLevel(level)
	if c.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
	switch {
	case c.File != "":
		f, err := os.OpenFile(c.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("log.file: %w", err)
		}
		log.SetOutput(f)
	case stage == "cleanup":
		log.SetOutput(os.Stderr)
	default:
		log.SetOutput(io.Discard)
	}
	return log, nil
}
