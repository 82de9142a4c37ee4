// Command gitlab-runner is GitLab's own runner, unedited, with the custom, docker and shell executors.
// It is put together here because the tests want a real runner where only Go modules can be had; see ../../README.md.
package main

import (
	"os"

	"cleanroom/integration/runner/helpercmd"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"
	_ "gitlab.com/gitlab-org/gitlab-runner/cache/s3v2" // where jobs of a runner keep their caches
	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/custom"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	"gitlab.com/gitlab-org/gitlab-runner/executors/shell"
	clihelpers "gitlab.com/gitlab-org/gitlab-runner/helpers/cli"
	"gitlab.com/gitlab-org/gitlab-runner/log"
	"gitlab.com/gitlab-org/gitlab-runner/network"
	_ "gitlab.com/gitlab-org/gitlab-runner/shells" // bash, sh, pwsh register themselves
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
	self, err := os.Executable()
	if err != nil {
		logrus.Fatal(err)
	}
	providers := executors.NewProviderRegistry(map[string]common.ExecutorProvider{
		"custom": custom.NewProvider("gitlab-runner"),
		"docker": docker.NewProvider(),
		"shell":  shell.NewProvider(self),
	})
	requests := network.NewAPIRequestsCollector()
	client := network.NewGitLabClient(
		network.WithAPIRequestsCollector(requests),
		network.WithCertificateDirectory(commands.GetDefaultCertificateDirectory()),
		network.WithExecutorProviderFunc(providers.GetByName),
	)

	app := cli.NewApp()
	app.Name, app.Usage, app.Version = "gitlab-runner", "a GitLab Runner", common.AppVersion.ShortLine()
	cli.VersionPrinter = common.AppVersion.Printer
	app.Commands = append(helpercmd.Commands(),
		commands.NewListCommand(),
		commands.NewRegisterCommand(client, providers),
		commands.NewRunCommand(client, requests, providers),
		commands.NewRunSingleCommand(client, providers),
		commands.NewUnregisterCommand(client),
		commands.NewVerifyCommand(client),
	)
	app.CommandNotFound = func(_ *cli.Context, name string) { logrus.Fatalln("Command", name, "not found") }
	clihelpers.InitCli()
	clihelpers.LogRuntimePlatform(app)
	clihelpers.FixHOME(app)
	clihelpers.WarnOnBool(os.Args)
	log.ConfigureLogging(app)
	if err := app.Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}
