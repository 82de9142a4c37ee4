package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/network"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/wire"
)

// The engine takes hundreds of milliseconds of a small machine for a network
// of a room's own and for each container that it connects. So where nobody in
// the room has to be found by name, the engine is told to leave its containers
// without a network, and we connect them: package wire.

const byWire = "wire" // a labelNetwork

// wires decides whether a room is connected by us. Why not, if that is news to
// the admin, stands in the error.
func (e *Engine) wires(ctx context.Context, room sandbox.Spec) (bool, error) {
	remapped := e.learned.FirstUID > 0 // its root enters no folder of ours, and so mounts no file from there
	if !e.options.Wires.Subnet.IsValid() || !e.local || e.ownKernel() || remapped || len(room.Services) > 0 || e.stateDir(room.Name) == "" {
		return false, nil
	}
	if resolvConf(room.Network, true) == "" {
		return false, fmt.Errorf("%w: it knows no name server that a room can reach by IPv4: set network.dns", wire.ErrUnfit)
	}
	err := e.net(room).Ready(ctx)
	return err == nil, err
}

func (e *Engine) net(room sandbox.Spec) wire.Net {
	n := e.options.Wires
	n.MTU = room.Network.MTU
	return n
}

// settle tells how the room is connected. A host that is not made for wires is
// no reason to fail.
func (e *Engine) settle(ctx context.Context, room sandbox.Spec) (wired bool, err error) {
	wired, err = e.wires(ctx, room)
	if errors.Is(err, wire.ErrUnfit) && ctx.Err() == nil {
		if e.options.Unfit != nil {
			e.options.Unfit(err)
		}
		err = nil
	}
	return wired, err
}

// bare has the engine leave containers without a network: we connect them, but
// for the job of a strict room, which nobody does.
func (e *Engine) bare(room sandbox.Spec, plans []plan) {
	for i := range plans {
		p := &plans[i]
		p.network, p.also = network.NetworkNone, nil
		p.bare, p.wired = true, p.role == sandbox.Helper || reaches(room)
		hosts := "127.0.0.1\tlocalhost\n"
		if p.wired {
			for _, line := range room.Network.ExtraHosts {
				name, address, _ := strings.Cut(line, ":")
				hosts += address + "\t" + name + "\n"
			}
		}
		p.bring(file{path: e.hostsFile(room.Name, p.name), target: "/etc/hosts", text: hosts})
		if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
			p.sysctls = map[string]string{"net.ipv6.conf.all.disable_ipv6": "1"} // as the engine has it
		}
	}
}

// hostsFile is what a container that the engine does not connect has as its
// /etc/hosts.
func (e *Engine) hostsFile(room, container string) string {
	return filepath.Join(e.stateDir(room), container+".hosts")
}

// plug connects a container that has just started, before init is told to run
// anything, and adds its own name to its hosts file.
func (e *Engine) plug(ctx context.Context, room sandbox.Spec, p plan, id string) error {
	ctx, cancel := e.short(ctx)
	defer cancel()
	c, err := e.api.ContainerInspect(ctx, id)
	if err != nil {
		return fmt.Errorf("container %s: %w", p.name, err)
	}
	if c.State == nil || c.State.Pid == 0 {
		return fmt.Errorf("container %s ended as soon as it started", p.name)
	}
	address, err := e.net(room).Plug(p.name, c.State.Pid)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(e.hostsFile(room.Name, p.name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s\t%s\n", address, p.name)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

// unplugged removes the wires of a room's containers that did not go with them.
func unplugged(room string) (found sandbox.Evidence) {
	for _, role := range []sandbox.Role{sandbox.Helper, sandbox.Job} {
		name := containerName(room, role)
		removed, err := wire.Unplug(name)
		item := sandbox.Item{Kind: "interface", Name: wire.Name(name)}
		switch {
		case err != nil:
			item.Why = err.Error()
			found.Left = append(found.Left, item)
		case removed:
			found.Removed = append(found.Removed, item)
		}
	}
	return found
}
