package config

import "time"

// Audit says where the records of jobs go.
type Audit struct {
	// Required refuses jobs on a host without an audit log.
	Required bool `mapstructure:"required"`
	// SignCommand is a program, with its arguments, that holds the key which
	// signs the log (a TPM, an HSM, a cloud's KMS): it reads on stdin what to
	// sign and prints the Ed25519 signature. Empty: the key is a file.
	SignCommand []string `mapstructure:"sign_command"`
	// PublicKey is the public half of that key: PEM, or base64 of 32 bytes.
	PublicKey string `mapstructure:"public_key"`
	// Provenance has each upload of artifacts attested, where there is a log: by
	// an in-toto statement that is signed with the log's key.
	Provenance bool `mapstructure:"provenance"`
	// ProvenanceFile is a path in the project's folder where uploads whose paths
	// include it find the signed statement. Empty: none.
	ProvenanceFile string `mapstructure:"provenance_file"`
	// Witness are servers that cosign the log's checkpoints.
	Witness []Witness `mapstructure:"witness"`
	// Forward are destinations that each record is sent to.
	Forward []Forward `mapstructure:"forward"`
}

// Witness is a server that speaks https://c2sp.org/tlog-witness.
type Witness struct {
	// URL is its submission prefix.
	URL string `mapstructure:"url"`
	// PublicKey is how its cosignatures are verified, as it publishes it:
	// NAME+ID+KEY.
	PublicKey string `mapstructure:"public_key"`
}

// Forward is a destination for records, off this host.
type Forward struct {
	// Name is what the place in the log that was reached is kept by: a server
	// that moved keeps its name, and gets what it has not got yet.
	Name string `mapstructure:"name"`
	// Kind is syslog (RFC 5424) or otlp (OpenTelemetry's logs, over HTTP).
	Kind string `mapstructure:"kind"`
	// Address of a syslog server is udp://, tcp:// or tls://HOST:PORT, or
	// unix:///PATH; of an OTLP receiver an URL, to which /v1/logs is added when
	// it has no path.
	Address string `mapstructure:"address"`
	// CAFile is a PEM file of the authority that vouches for the server.
	CAFile string `mapstructure:"ca_file"`
	// CertFile and KeyFile (PEM) are how the server knows us.
	CertFile string `mapstructure:"cert_file"`
	KeyFile  string `mapstructure:"key_file"`
	// HeadersFile holds "Name: value" lines for an OTLP receiver.
	HeadersFile string `mapstructure:"headers_file"`
	// Timeout bounds the sending of one batch; 0 means 10 seconds.
	Timeout time.Duration `mapstructure:"timeout"`
}
