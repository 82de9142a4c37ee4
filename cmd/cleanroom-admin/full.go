package main

import (
	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/policy"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
	"cleanroom/executor/secret/provider"
)

// full is what takes long to load, and what this program is for.
var full = &executor.Full{
	Rules:     func(c config.Config) (verdict.Policy, error) { return policy.FromConfig(c) },
	Providers: provider.Opener,
	HostKey:   func(dataDir string) (secret.Sealer, error) { return hostkey.Open(dataDir) },
}
