// Package helpercmd lists the commands that a job's own scripts call: for artifacts, caches and waiting for services.
// The runner has them too, because the shell executor and many custom drivers run them from the runner's binary.
package helpercmd

import (
	"github.com/urfave/cli"
	"gitlab.com/gitlab-org/gitlab-runner/commands/helpers"
)

// Commands returns what the stock helper has, less `steps`, which needs a real step-runner.
func Commands() []cli.Command {
	return []cli.Command{
		helpers.NewArtifactsDownloaderCommand(),
		helpers.NewArtifactsUploaderCommand(),
		helpers.NewCacheArchiverCommand(),
		helpers.NewCacheExtractorCommand(),
		helpers.NewCacheInitCommand(),
		helpers.NewHealthCheckCommand(),
		helpers.NewProbeURLCommand(),
		helpers.NewVerifyVersionCommand(),
		helpers.NewProxyExecCommand(),
		helpers.NewReadLogsCommand(),
	}
}
