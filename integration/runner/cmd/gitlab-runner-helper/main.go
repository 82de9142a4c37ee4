// Command gitlab-runner-helper is what runs inside a job's containers: artifacts, caches, waiting for services.
package main

import (
	"os"

	"cleanroom/integration/runner/helpercmd"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/log"
)

func main() {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(*logrus.Entry); ok { // logrus.Panic has said what is wrong
				os.Exit(1)
			}
			panic(r)
		}
	}()
	app := cli.NewApp()
	app.Name, app.Usage, app.Version = "gitlab-runner-helper", "a GitLab Runner Helper", common.AppVersion.ShortLine()
	cli.VersionPrinter = common.AppVersion.Printer
	app.Commands = helpercmd.Commands()
	app.CommandNotFound = func(_ *cli.Context, name string) { logrus.Fatalln("Command", name, "not found") }
	log.ConfigureLogging(app)
	if err := app.Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}
