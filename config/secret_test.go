package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestTableExamples: what the example shows of lists of tables is a
// configuration.
func TestTableExamples(t *testing.T) {
	var text string
	for _, k := range keys() {
		text += examples[k.name]
	}
	c, err := Load(write(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Identity.Issuers) != 1 || len(c.Identity.Profiles) != 1 || len(c.Policy.Rules) != 3 || len(c.Providers) != 1 || len(c.Secrets) != 1 || len(c.Audit.Forward) != 2 || len(c.Audit.Witness) != 1 {
		t.Fatalf("%+v", c)
	}
	want := Issuer{URL: "https://gitlab.example.com", Audience: "https://cleanroom.example.com", Algorithms: []string{"RS256"}, Skew: 30 * time.Second, KeysMaxAge: time.Hour}
	if !reflect.DeepEqual(c.Identity.Issuers[0], want) {
		t.Errorf("%+v", c.Identity.Issuers[0])
	}
	if p := c.Providers[0]; p.Timeout != 10*time.Second || p.Vault.Mount != "jwt" {
		t.Errorf("%+v", p)
	}
	if d := c.Secrets[0].Deliver[0]; d.Variable != "DATABASE_URL" || d.File != "" {
		t.Errorf("%+v", d)
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(Example(), "# "+line) {
			t.Errorf("the example lacks %q", line)
		}
	}
}

const (
	anIssuer = "[[identity.issuer]]\nurl = \"https://gitlab.test\"\naudience = \"clean\"\n"
	aVault   = "[[provider]]\nname = \"v\"\nkind = \"vault\"\n[provider.vault]\naddress = \"https://vault.test\"\nrole = \"r\"\ntoken = \"T\"\n"
	aStore   = "[[provider]]\nname = \"s\"\nkind = \"store\"\n"
	aForward = "[[audit.forward]]\nname = \"f\"\nkind = \"syslog\"\naddress = \"tls://logs.test:6514\"\n"
	aSecret  = "[[secret]]\nname = \"S\"\nprovider = \"s\"\n"
)

func TestSecretDefaults(t *testing.T) {
	c, err := Load(write(t, aStore+aSecret+"[[secret.deliver]]\nas = \"file\"\nvariable = \"API_Key\"\n[[secret]]\nname = \"Other-1\"\nprovider = \"s\"\n[[secret.deliver]]\nvariable = \"O\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Secrets[0].Deliver[0]; d != (Deliver{As: "file", Variable: "API_Key", File: "api_key"}) {
		t.Errorf("%+v", d)
	}
	if s := c.Secrets[1]; s.Path != "Other-1" || s.Deliver[0] != (Deliver{As: "env", Variable: "O"}) {
		t.Errorf("%+v", s)
	}
}

// Names are values: not to be folded.
func TestBadTables(t *testing.T) {
	for text, want := range map[string]string{
		"[secret]\nname = \"x\"":                 "secret must be a list of tables, written [[secret]]",
		"secret = [1]":                           "secret must be a list of tables",
		"[[secret]]\nnmae = \"x\"":               `unknown key "secret[0].nmae"; did you mean secret[0].name?`,
		"[[secret]]\nname = 3":                   "secret[0].name: 3 must be a string",
		"[[secret]]\n[[secret.deliver]]\nas = 1": "secret[0].deliver[0].as: 1 must be a string",
		aStore + aSecret + aSecret:               `secret[1].name: "S" must be in the list once only`,
		aSecret:                                  `secret[0].provider: "s" must be the name of a [[provider]]`,
		aStore + "[[secret]]\nname = \"a b\"\nprovider = \"s\"":                            `secret[0].name: "a b"`,
		aStore + "[[secret]]\nname = \"a-b\"\nprovider = \"s\"":                            `deliver[0].variable: "a-b" must be the name of a variable`,
		aStore + aSecret + "[[secret.deliver]]\nvalue = \"{{\"":                            "must be a Go template",
		aStore + aSecret + "[[secret.deliver]]\nas = \"argv\"":                             "one of env, file",
		aStore + aSecret + "[[secret.deliver]]\nfile = \"f\"":                              "secret[0].deliver[0].file",
		aStore + aSecret + "[[secret.deliver]]\n[[secret.deliver]]":                        "deliver[1].variable",
		aStore + aSecret + "[[secret.deliver]]\nas = \"file\"\nfile = \"../f\"":            "a plain file name",
		aStore + aSecret + "parameters = [\"canary-value\"]":                               "secret[0].parameters[0]",
		"[[provider]]\nname = \"x\"\nkind = \"valt\"":                                      "one of vault, store",
		"[[provider]]\nname = \"x\"\nkind = \"store\"\n[provider.vault]\nrole = \"r\"":     "provider[0].vault: \"the table\" must be left out",
		strings.Replace(aVault, "https", "ftp", 1):                                         "provider[0].vault.address",
		strings.Replace(aVault, "role = \"r\"\n", "", 1):                                   "provider[0].vault.role",
		strings.Replace(aVault, "token = \"T\"", "token = \"$T\"", 1):                      "the name of a variable",
		"[[provider]]\nname = \"x\"\nkind = \"exec\"\n[provider.exec]\ncommand = [\"sh\"]": "a program with its whole path",
		anIssuer + anIssuer:                                                "identity.issuer[1].url",
		anIssuer + "algorithms = [\"HS256\"]":                              "one of RS256",
		anIssuer + "algorithms = [\"none\"]":                               "one of RS256",
		anIssuer + "skew = \"1h\"":                                         "at most 5m",
		strings.Replace(anIssuer, "https", "http", 1):                      "https, as whoever is on the way",
		anIssuer + "jwks_url = \"http://gitlab.test/keys\"":                "identity.issuer[0].jwks_url",
		aStore + aSecret + "[[secret.deliver]]\nvariable = \"LD_PRELOAD\"": "none that the shell",
		"[[identity.issuer]]\nurl = \"https://gitlab.test\"":               "identity.issuer[0].audience",
		anIssuer + "[[identity.profile]]\nname = \"p\"\nissuer = \"https://other.test\"\naudience=[\"a\"]": "the url of an [[identity.issuer]]",
		"[[policy.rule]]\nname = \"r\"\nwhen = \"true\"\nidentity = [\"p\"]":                               "the name of an [[identity.profile]]",
		"[[policy.rule]]\nname = \"r\"":                                                        "policy.rule[0].when",
		"[[policy.rule]]\nname = \"r\"\nwhen = \"true\"\nsecrets = [\"[\"]":                    "a glob",
		"[policy]\nfile = \"/etc/rules.toml\"\n[[policy.rule]]\nname = \"r\"\nwhen = \"true\"": "keep one of the two",
		aForward + aForward:                                                                                   "audit.forward[1].name",
		strings.Replace(aForward, "syslog", "relp", 1):                                                        "one of syslog, otlp",
		strings.Replace(aForward, "tls:", "https:", 1):                                                        "like tls://HOST:6514",
		strings.Replace(aForward, ":6514", "", 1):                                                             "like tls://HOST:6514",
		strings.Replace(aForward, "logs.test:6514", "/dev/log", 1):                                            "like tls://HOST:6514",
		strings.Replace(aForward, "tls://logs.test:6514", "unix:///dev/log", 1):                               "a socket that takes RFC 5424",
		strings.Replace(aForward, "tls://logs.test:6514", "unix:///run/../dev/log", 1):                        "an absolute, clean path",
		strings.Replace(aForward, "tls:", "tcp:", 1) + "cert_file = \"/c\"\nkey_file = \"/k\"\n":              "without TLS nobody looks at it",
		aForward + "cert_file = \"/c\"\n":                                                                     "set together with key_file",
		aForward + "headers_file = \"/h\"\n":                                                                  "only OTLP has headers",
		"[[audit.forward]]\nname = \"f\"\nkind = \"otlp\"\naddress = \"http://otel.test:4318\"\n":             "https: records would go",
		"[[audit.forward]]\nname = \"f\"\nkind = \"otlp\"\naddress = \"otel.test:4318\"\n":                    "audit.forward[0].address",
		"[[audit.forward]]\nname = \"f\"\nkind = \"otlp\"\naddress = \"https://otel.test/?k=canary-value\"\n": "goes into headers_file",
		aForward + "timeout = \"-1s\"\n":                                                                      "above zero",
		"[audit]\nprovenance_file = \"/provenance\"\n":                                                        "audit.provenance_file",
		"[audit]\nprovenance_file = \"a/../../b\"\n":                                                          "a clean path in the project's folder",
		"[audit]\nprovenance_file = \"*.intoto.jsonl\"\n":                                                     "a clean path in the project's folder",
		"[audit]\nprovenance = false\nprovenance_file = \"p\"\n":                                              "left out where audit.provenance is false",
		"data_dir = \"/run/cleanroom/data\"":                                                                  "apart from state_dir",
	} {
		_, err := Load(write(t, text), nil)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary-value") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\n got  %v\n want %s", text, err, want)
		}
	}
}
