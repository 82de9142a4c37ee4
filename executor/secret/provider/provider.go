// Package provider makes a source of secrets of any kind that cleanroom
// knows from an admin's configuration of it.
package provider

import (
	"fmt"

	"cleanroom/config"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/aws"
	"cleanroom/executor/secret/exec"
	"cleanroom/executor/secret/file"
	"cleanroom/executor/secret/oidc"
	"cleanroom/executor/secret/store"
	"cleanroom/executor/secret/vault"
)

// Opener makes providers; dataDir is where the embedded store and the host's
// key are. Its errors name the provider.
func Opener(dataDir string) secret.Opener {
	return func(c config.Provider) (secret.Provider, error) {
		p, err := open(c, dataDir)
		if err != nil {
			return nil, fmt.Errorf("provider %s (%s): %w", c.Name, c.Kind, err)
		}
		return p, nil
	}
}

func open(c config.Provider, dataDir string) (secret.Provider, error) {
	switch c.Kind {
	case "vault":
		return vault.New(c)
	case "store":
		return store.New(c, dataDir)
	case "oidc":
		return oidc.New(c)
	case "aws":
		return aws.New(c)
	case "file":
		return file.New(c)
	case "exec":
		return exec.New(c)
	}
	return nil, fmt.Errorf("kind %q is not known", c.Kind)
}
