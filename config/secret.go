package config

import "time"

// Provider is a source of secrets. Only the table of its Kind may be set.
type Provider struct {
	Name string `mapstructure:"name"`
	// Kind is vault, store, oidc, aws, file or exec.
	Kind string `mapstructure:"kind"`
	// Timeout bounds each single request; 0 means 10 seconds.
	Timeout time.Duration `mapstructure:"timeout"`

	Vault Vault `mapstructure:"vault"`
	Store Store `mapstructure:"store"`
	OIDC  OIDC  `mapstructure:"oidc"`
	AWS   AWS   `mapstructure:"aws"`
	Files Files `mapstructure:"file"`
	Exec  Exec  `mapstructure:"exec"`
}

// Vault is HashiCorp Vault or OpenBao.
type Vault struct {
	Address   string `mapstructure:"address"`
	Namespace string `mapstructure:"namespace"`
	CAFile    string `mapstructure:"ca_file"`
	// Auth is jwt (the job's own ID token), approle or token_file.
	Auth string `mapstructure:"auth"`
	// Mount of the auth method; empty means its usual name.
	Mount string `mapstructure:"mount"`
	// Role to log in as (jwt).
	Role string `mapstructure:"role"`
	// Token names the variable that holds the ID token (jwt).
	Token string `mapstructure:"token"`
	// RoleID and SecretIDFile log in an AppRole.
	RoleID       string `mapstructure:"role_id"`
	SecretIDFile string `mapstructure:"secret_id_file"`
	// TokenFile holds a Vault token, of which a child is made for each job.
	TokenFile string `mapstructure:"token_file"`
}

// Store is the embedded store of this host.
type Store struct {
	// Path of the encrypted file; empty means store.age in data_dir.
	Path string `mapstructure:"path"`
}

// OIDC is an identity provider (RFC 6749, 8693, 7009).
type OIDC struct {
	// Issuer is its URL; its endpoints are found by discovery, unless
	// TokenURL (and RevokeURL) name them.
	Issuer    string `mapstructure:"issuer"`
	TokenURL  string `mapstructure:"token_url"`
	RevokeURL string `mapstructure:"revoke_url"`
	CAFile    string `mapstructure:"ca_file"`
	// Grant is token_exchange or client_credentials.
	Grant string `mapstructure:"grant"`
	// ClientID and ClientSecretFile are how we are known there.
	ClientID         string `mapstructure:"client_id"`
	ClientSecretFile string `mapstructure:"client_secret_file"`
	// Token names the variable that holds the ID token to exchange.
	Token string `mapstructure:"token"`
}

// AWS is its security token service.
type AWS struct {
	Region string `mapstructure:"region"`
	// Endpoint of STS; empty means AWS's own in the region.
	Endpoint string `mapstructure:"endpoint"`
	CAFile   string `mapstructure:"ca_file"`
	// Token names the variable that holds the ID token.
	Token string `mapstructure:"token"`
}

// Files is a folder of files, one a secret.
type Files struct {
	Dir string `mapstructure:"dir"`
}

// Exec is a program that prints JSON.
type Exec struct {
	Command []string `mapstructure:"command"`
	// Revoke is run to take back what Command gave; empty means that it
	// cannot be taken back.
	Revoke []string `mapstructure:"revoke"`
	// Env are KEY=VALUE lines; the program gets no others but PATH.
	Env []string `mapstructure:"env"`
}

// Secret is something that a job may ask for, by name, with
// CLEANROOM_SECRETS, and that a rule may grant.
type Secret struct {
	Name string `mapstructure:"name"`
	// Provider is the name of one.
	Provider string `mapstructure:"provider"`
	// Path is where the provider has it: a path in Vault, a name in the
	// store or folder, an AWS role's ARN, an audience or scope at an identity
	// provider; empty means Name.
	Path string `mapstructure:"path"`
	// Parameters are KEY=VALUE lines that the provider is asked with.
	Parameters []string `mapstructure:"parameters"`
	// MaxAge refuses a value that was not rotated for longer; 0 means any.
	MaxAge time.Duration `mapstructure:"max_age"`
	// AllowShort takes a value that is too short to be masked in logs.
	AllowShort bool `mapstructure:"allow_short"`
	// Public are fields of the provider's answer that are no secret, and so not
	// hidden in logs, besides those that are none anywhere (username, host, ...).
	Public []string `mapstructure:"public"`
	// Deliver says how the job gets it; empty means one environment
	// variable, called Name.
	Deliver []Deliver `mapstructure:"deliver"`
}

// Deliver is one variable or file made from a secret.
type Deliver struct {
	// As is env (the default) or file.
	As string `mapstructure:"as"`
	// Variable holds the value, or the path of the file; empty means the
	// secret's name.
	Variable string `mapstructure:"variable"`
	// File is its name in the folder of secrets; empty means Variable in
	// lower case, as pydantic-settings' secrets_dir wants it.
	File string `mapstructure:"file"`
	// Value is a Go template over the provider's fields, like
	// postgresql://{{.username}}:{{.password | urlquery}}@db/shop; empty
	// means the only field.
	Value string `mapstructure:"value"`
}
