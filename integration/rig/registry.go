package rig

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Registry is a real container registry (Debian's docker-registry) on a
// loopback port, which the engine takes without TLS. It wants a login.
type Registry struct {
	Address  string // host:port
	User     string
	Password string

	dir string
	cmd *exec.Cmd
}

// StartRegistry starts one that keeps its images in dir.
func StartRegistry(ctx context.Context, dir string) (*Registry, error) {
	address, err := freeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	var word [9]byte
	rand.Read(word[:])
	r := &Registry{Address: address, User: "puller", Password: "pw-" + hex.EncodeToString(word[:]), dir: dir}
	hash, err := bcrypt.GenerateFromPassword([]byte(r.Password), bcrypt.MinCost)
	if err != nil {
		return nil, err
	}
	logins := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(logins, []byte(r.User+":"+string(hash)+"\n"), 0o600); err != nil {
		return nil, err
	}
	return r, r.serve(fmt.Sprintf("auth: {htpasswd: {realm: rig, path: %q}}\n", logins))
}

// OpenToAll starts the registry again at its address, and it wants no login.
func (r *Registry) OpenToAll() error {
	r.Stop()
	return r.serve("")
}

func (r *Registry) serve(auth string) error {
	binary, err := exec.LookPath("docker-registry")
	if err != nil {
		return errors.New("docker-registry is not installed: run `make integration`, which brings it")
	}
	config := filepath.Join(r.dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n%s", filepath.Join(r.dir, "data"), r.Address, auth)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	r.cmd = exec.Command(binary, "serve", config)
	log, err := os.Create(filepath.Join(r.dir, "registry.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if res, err := http.Get("http://" + r.Address + "/v2/"); err == nil {
			res.Body.Close()
			return nil
		}
	}
	words, _ := os.ReadFile(log.Name())
	r.Stop()
	return fmt.Errorf("docker-registry does not come up: %s", words)
}

// Auth is the login as docker's config files hold it.
func (r *Registry) Auth() string {
	return base64.StdEncoding.EncodeToString([]byte(r.User + ":" + r.Password))
}

// AuthConfig is a config.json that opens the registry under an address.
func (r *Registry) AuthConfig(address string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, address, r.Auth())
}

var pushed = regexp.MustCompile(`digest: (sha256:[0-9a-f]{64})`)

// Push stores a local image under a name (shop/app:1) and removes the tag that
// this needs, so that the engine does not know the name.
func (r *Registry) Push(ctx context.Context, image, name string) (digest string, err error) {
	folder, err := os.MkdirTemp(r.dir, "login-") // never the user's own config.json
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(r.AuthConfig(r.Address)), 0o600); err != nil {
		return "", err
	}
	tag := r.Address + "/" + name
	if _, err := docker(ctx, "tag", image, tag); err != nil {
		return "", err
	}
	out, err := docker(ctx, "--config", folder, "push", tag)
	if _, gone := docker(ctx, "rmi", tag); err == nil {
		err = gone
	}
	if err != nil {
		return "", err
	}
	m := pushed.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("docker push told no digest: %s", out)
	}
	return m[1], nil
}

// Stop ends the registry; it may be called twice.
func (r *Registry) Stop() {
	if r.cmd != nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.cmd = nil
	}
}

// freeAddress is one of a host that was free a moment ago, below the ports that the kernel gives to whoever asks for any (from 32768 on, unless
// ip_local_port_range says otherwise): so nobody is given it meanwhile.
func freeAddress(host string) (address string, err error) {
	for range 100 {
		address = net.JoinHostPort(host, fmt.Sprint(20000+mathrand.IntN(12000)))
		l, listening := net.Listen("tcp", address)
		if listening == nil {
			return address, l.Close()
		}
		err = listening
	}
	return "", err
}
