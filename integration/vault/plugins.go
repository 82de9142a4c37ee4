package main

import (
	"maps"
	"slices"

	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/builtin/logical/ssh"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// What this server has beside tokens, which the core brings itself.
var (
	authMethods     = map[string]logical.Factory{"jwt": jwt.Factory, "approle": approle.Factory}
	secretEngines   = map[string]logical.Factory{"kv": kv.Factory, "database": database.Factory, "ssh": ssh.Factory}
	databasePlugins = map[string]func() (any, error){"postgresql-database-plugin": postgresql.New}
)

// plugins tells the core's catalogue what is built in. Vault's own registry
// would bring in every plugin there is.
type plugins struct{}

func (plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	if kind == consts.PluginTypeDatabase {
		f, ok := databasePlugins[name]
		return f, ok
	}
	f, ok := factories(kind)[name]
	return func() (any, error) { return f, nil }, ok
}

func (p plugins) Contains(name string, kind consts.PluginType) bool {
	return slices.Contains(p.Keys(kind), name)
}

func (plugins) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeDatabase {
		return slices.Sorted(maps.Keys(databasePlugins))
	}
	return slices.Sorted(maps.Keys(factories(kind)))
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	if !p.Contains(name, kind) {
		return consts.Unknown, false
	}
	return consts.Supported, true
}

func (plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func factories(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeCredential:
		return authMethods
	case consts.PluginTypeSecrets:
		return secretEngines
	}
	return nil
}
