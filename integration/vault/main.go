// Command vault is a real Vault server for tests: the core of HashiCorp's
// v1.14.1 and its HTTP API, with JWT, AppRole and token login, KV, SSH and the
// database engine with PostgreSQL. It is what `vault server` would be without
// the hundred other plugins, which take most of the time to compile.
//
// It keeps everything in one folder and unseals itself, so that it can be
// stopped and started again; do not use it for anything but tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

var (
	listen  = flag.String("listen", "127.0.0.1:0", "host:port to listen on")
	dir     = flag.String("dir", "", "folder with root-token, a file with the token to begin with; storage and unseal key go there")
	tlsCert = flag.String("tls-cert", "", "PEM file of a certificate; empty means no TLS")
	tlsKey  = flag.String("tls-key", "", "PEM file of its key")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run() error {
	if *dir == "" || flag.NArg() > 0 {
		return errors.New("usage: vault --dir FOLDER [--listen HOST:PORT] [--tls-cert FILE --tls-key FILE]")
	}
	text, err := os.ReadFile(filepath.Join(*dir, "root-token"))
	if err != nil {
		return fmt.Errorf("write the root token to begin with: %w", err)
	}
	core, err := open(*dir)
	if err != nil {
		return err
	}
	defer core.ShutdownWait()
	if err := unseal(core, *dir, strings.TrimSpace(string(text))); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core: core,
			ListenerConfig: &configutil.Listener{
				Type: "tcp", Address: listener.Addr().String(), MaxRequestSize: 1 << 20, MaxRequestDuration: time.Minute,
			},
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	served := make(chan error, 1)
	scheme := "http"
	if *tlsCert != "" {
		scheme = "https"
		go func() { served <- server.ServeTLS(listener, *tlsCert, *tlsKey) }()
	} else {
		go func() { served <- server.Serve(listener) }()
	}
	// Who started it reads this line to learn the port.
	fmt.Printf("listening url=%s://%s\n", scheme, listener.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

// open makes a core on the storage in dir.
func open(dir string) (*vault.Core, error) {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Warn, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "storage")}, logger)
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           physical.Backend(storage),
		StorageType:        "file",
		Logger:             logger,
		LogicalBackends:    secretEngines,
		CredentialBackends: authMethods,
		BuiltinRegistry:    plugins{},
		DisableMlock:       true, // nothing in it is worth a capability
		// A lease that cannot be revoked is tried again soon, so that a test
		// can wait for it.
		ExpirationRevokeRetryBase: time.Second,
	})
}
