// Package rig is a whole installation in miniature: a stand-in GitLab in a
// container of its own, a real gitlab-runner, and cleanroom registered on it.
// Tests, the demo and the benchmark all stand on it.
package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cleanroom/integration/gitlab"
)

// Options of a rig.
type Options struct {
	Dir     string // a folder of its own, the caller removes it
	Bin     string // folder with cleanroom, cleanroom-admin and cleanroom-init
	Seed    uint64 // of the stand-in's awkwardness
	Awkward bool
	TLS     bool // https, with a certificate authority of its own
}

// Rig is an installation; Close takes it down.
type Rig struct {
	*gitlab.Client
	URL   string
	Token string // of the runner
	Dir   string
	Bin   string
	CA    string // PEM file of the authority; empty without TLS
	// Address is the host's, as every room reaches it.
	Address string

	name string
}

// GitLabRunner is the runner under test ($GITLAB_RUNNER, which make sets).
func GitLabRunner() (string, error) {
	p := os.Getenv("GITLAB_RUNNER")
	if p == "" {
		return "", errors.New("GITLAB_RUNNER is not set: run `make test` or `make demo`, which build or find one")
	}
	return p, nil
}

// patience is how long something that was started may take to answer: on a
// slow machine under load a second becomes many, and only a hang is longer.
const patience = 2 * time.Minute

var announced = regexp.MustCompile(`url=(\S+) .*runner-token=(\S+) control-token=(\S+)`)

// New starts the stand-in. It runs on the host's network, at the host's
// address on a bridge of its own.
func New(ctx context.Context, o Options) (*Rig, error) {
	standin := filepath.Join(o.Dir, "standin")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", standin, "cleanroom/integration/cmd/standin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the stand-in: %w\n%s", err, out)
	}
	var id [4]byte
	rand.Read(id[:])
	r := &Rig{Dir: o.Dir, Bin: o.Bin, name: "standin-gitlab-" + hex.EncodeToString(id[:])}
	var err error
	if r.Address, err = r.bridge(ctx); err != nil {
		return nil, err
	}
	args := []string{"run", "--detach", "--name", r.name, "--network", "host", "--label", "standin=1",
		"--tmpfs", "/data:exec,mode=0755", "--mount", "type=bind,readonly,source=" + standin + ",target=/standin"}
	serve := []string{"--entrypoint", "/standin", "cleanroom/helper",
		"--listen", r.Address + ":0", "--data", "/data", "--seed", fmt.Sprint(o.Seed), fmt.Sprintf("--awkward=%t", o.Awkward)}
	var certificate []byte
	if o.TLS {
		a, err := makeAuthority(filepath.Join(o.Dir, "tls"), r.Address)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("certificate: %w", err)
		}
		r.CA, certificate = a.file, a.pem
		args = append(args, "--mount", "type=bind,readonly,source="+a.dir+",target=/tls")
		serve = append(serve, "--tls-cert", "/tls/cert.pem", "--tls-key", "/tls/key.pem")
	}
	if _, err = docker(ctx, append(args, serve...)...); err != nil {
		r.Close()
		return nil, err
	}
	m, err := r.announcement(ctx)
	if err != nil {
		r.Close()
		return nil, err
	}
	r.URL, r.Token = m[1], m[2]
	if r.Client, err = gitlab.NewClient(m[1], m[3], certificate); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// announcement is the line that the stand-in says when it is up.
func (r *Rig) announcement(ctx context.Context) ([]string, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		out, err := docker(ctx, "logs", r.name)
		if err != nil {
			return nil, err
		}
		if m := announced.FindStringSubmatch(out); m != nil {
			return m, nil
		}
	}
	out, _ := docker(ctx, "logs", r.name)
	return nil, fmt.Errorf("the stand-in does not come up: %s", out)
}

// Close removes the stand-in and its network.
func (r *Rig) Close() error {
	_, gone := docker(context.Background(), "rm", "--force", "--volumes", r.name)
	_, off := docker(context.Background(), "network", "rm", r.name)
	return errors.Join(gone, off)
}

// bridge makes a network of the rig's own and returns the host's address on
// it: one that the runner and every room can reach, whatever else is there.
func (r *Rig) bridge(ctx context.Context) (string, error) {
	if _, err := docker(ctx, "network", "create", "--label", "standin=1", r.name); err != nil {
		return "", err
	}
	out, err := docker(ctx, "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", r.name)
	if err != nil {
		return "", err
	}
	// Without a container the bridge has no carrier, and its address answers
	// all the same, for it is the host's.
	return strings.TrimSpace(out), nil
}

// docker runs the client and returns both its streams.
func docker(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "docker", args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}
