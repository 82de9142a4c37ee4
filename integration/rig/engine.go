package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// EngineOptions of a second Docker Engine.
type EngineOptions struct {
	Userns bool   // --userns-remap=default
	Runsc  string // path of gVisor's runtime, to be known as runsc
	TCP    bool   // listen on 127.0.0.1, too
	Disk   string // size of the memory that its data are on; empty: they are beside everybody's
	Runc   string // path of the runtime that it takes for runc
}

// Engine is a Docker Engine of a test's own, beside the machine's.
type Engine struct {
	Host string // unix://...
	TCP  string // tcp://..., if asked for
	Dir  string
	args []string
	cmd  *exec.Cmd
	// ended is closed when that process was waited for.
	ended  chan struct{}
	killed bool // once
}

// pool is where a second engine's networks come from.
const pool = "10.213.0.0/16"

// bridge is the engine's default network. It has to have one: told of none, an
// engine removes docker0, which is the machine's own engine's.
func (e *Engine) bridge() string {
	name := filepath.Base(e.Dir)
	return "eng" + name[max(0, len(name)-12):]
}

func (e *Engine) makeBridge(ctx context.Context) error {
	for _, args := range [][]string{
		{"link", "add", e.bridge(), "type", "bridge"}, {"addr", "add", "10.214.0.1/24", "dev", e.bridge()}, {"link", "set", e.bridge(), "up"},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

func (e *Engine) removeBridge() error {
	if out, err := exec.Command("ip", "link", "del", e.bridge()).CombinedOutput(); err != nil {
		return fmt.Errorf("ip link del: %w: %s", err, out)
	}
	return nil
}

// firewall lets containers of one network reach each other: the machine's own
// engine has everything dropped that it does not know.
func firewall(ctx context.Context, what string) error {
	out, err := exec.CommandContext(ctx, "iptables", "--wait", what, "DOCKER-USER", "-s", pool, "-d", pool, "-j", "ACCEPT").CombinedOutput()
	if err != nil {
		return fmt.Errorf("iptables %s: %w: %s", what, err, out)
	}
	return nil
}

// StartEngine starts one. It makes no firewall rules itself, for it would
// empty those of the machine's own engine; so its rooms reach the host, where
// the stand-in is, and nothing beyond.
func StartEngine(ctx context.Context, o EngineOptions) (*Engine, error) {
	driver, err := docker(ctx, "info", "--format", "{{.Driver}}") // what works for one works for two
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "engine-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the root of a remapped user must pass
		return nil, err
	}
	e := &Engine{Dir: dir, Host: "unix://" + filepath.Join(dir, "docker.sock")}
	config := map[string]any{}
	if o.Runsc != "" {
		config["runtimes"] = map[string]any{"runsc": map[string]any{"path": o.Runsc, "runtimeArgs": []string{"--platform=systrap"}}}
	}
	if o.Runc != "" {
		config["runtimes"], config["default-runtime"] = map[string]any{"wrapped": map[string]any{"path": o.Runc}}, "wrapped"
	}
	if o.Disk != "" {
		if err := os.Mkdir(e.data(), 0o711); err != nil {
			return nil, err
		}
		if err := syscall.Mount("tmpfs", e.data(), "tmpfs", 0, "mode=0711,size="+o.Disk); err != nil {
			return nil, fmt.Errorf("disk of the second engine: %w", err)
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), text, 0o600); err != nil {
		return nil, err
	}
	e.args = []string{"--config-file", filepath.Join(dir, "daemon.json"), "--host", e.Host,
		"--data-root", e.data(), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--storage-driver", strings.TrimSpace(driver), "--bridge", e.bridge(), "--iptables=false", "--ip6tables=false",
		"--default-address-pool", "base=" + pool + ",size=24"}
	if o.Userns {
		e.args = append(e.args, "--userns-remap=default")
	}
	if o.TCP {
		address, err := freeAddress("127.0.0.1")
		if err != nil {
			return nil, err
		}
		e.TCP = "tcp://" + address
		e.args = append(e.args, "--host", e.TCP, "--tls=false")
	}
	if err := e.makeBridge(ctx); err != nil {
		return nil, err
	}
	if err := firewall(ctx, "-I"); err != nil {
		return nil, errors.Join(err, e.removeBridge())
	}
	if err := e.Up(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

// data is where it keeps everything.
func (e *Engine) data() string { return filepath.Join(e.Dir, "data") }

// Up starts the engine, again after Down. One that ends by itself is started
// again, as systemd does: after a KILL its containerd may take too long.
func (e *Engine) Up(ctx context.Context) (err error) {
	if e.killed { // an engine with a pool of addresses removes docker0 when it starts again, whosever that is
		defer keepBridge(ctx)()
	}
	for range 3 {
		if err = e.start(); err != nil {
			return err
		}
		if err = e.answers(ctx); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the second engine does not come up: %w\n%s", err, e.Words())
}

func (e *Engine) start() error {
	log, err := os.OpenFile(filepath.Join(e.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.Command("dockerd", e.args...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		e.cmd = nil
		return fmt.Errorf("a second engine: %w", err)
	}
	e.ended = make(chan struct{})
	go func(c *exec.Cmd, ended chan struct{}) { c.Wait(); close(ended) }(e.cmd, e.ended)
	return nil
}

// answers waits until the engine does, or has ended.
func (e *Engine) answers(ctx context.Context) (err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err = e.Docker(ctx, "version"); err == nil {
			return nil
		}
		select {
		case <-e.ended:
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return err
}

// Down kills the engine. What it runs lives on, as after a crash.
func (e *Engine) Down() {
	if e.cmd != nil {
		e.cmd.Process.Kill()
		<-e.ended
		e.cmd, e.killed = nil, true
	}
	// An engine that finds its containerd dying takes it for a living one, and waits for it in vain.
	text, _ := os.ReadFile(filepath.Join(e.Dir, "exec", "containerd", "containerd.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	for end := time.Now().Add(patience); pid > 1 && time.Now().Before(end) && syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
	}
}

// Docker runs the client against this engine.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	return docker(ctx, append([]string{"--host", e.Host}, args...)...)
}

// Load copies images from the machine's own engine.
func (e *Engine) Load(ctx context.Context, images ...string) error {
	save := exec.CommandContext(ctx, "docker", append([]string{"save"}, images...)...)
	load := exec.CommandContext(ctx, "docker", "--host", e.Host, "load")
	pipe, err := save.StdoutPipe()
	if err != nil {
		return err
	}
	var words bytes.Buffer
	load.Stdin, load.Stdout, load.Stderr, save.Stderr = pipe, &words, &words, &words
	if err := errors.Join(load.Start(), save.Start()); err != nil {
		return err
	}
	if err := errors.Join(load.Wait(), save.Wait()); err != nil {
		return fmt.Errorf("copy of images: %w: %s", err, words.Bytes())
	}
	return nil
}

// Look takes the Scene on this engine alone.
func (e *Engine) Look(ctx context.Context) (Scene, error) { return onEngine(ctx, "--host", e.Host) }

// Words returns the end of the engine's log.
func (e *Engine) Words() string {
	b, _ := os.ReadFile(filepath.Join(e.Dir, "log"))
	return string(b[max(0, len(b)-4000):])
}
