package docker

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"cleanroom/sandbox"
)

// The engine's name server listens in the network namespace of a container. A
// runtime with a kernel of its own has its own loopback and never meets it
// (google/gvisor#7469). Its rooms get by without: services have fixed
// addresses, which stand in everybody's hosts file, and other names are asked
// of the admin's name servers, or of this machine's.

// hostResolvers are where this machine's name servers stand; the second file
// has those that systemd-resolved hides behind a loopback address.
var hostResolvers = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// fixes tells whether a room's containers get fixed addresses.
func (e *Engine) fixes(room sandbox.Spec) bool {
	return e.ownKernel() && len(room.Services) > 0
}

// fixedNetwork makes a network in which addresses can be chosen. The engine
// allows that only where the subnet was chosen too, so it is asked for a free
// one first. Another room may take it in between: then for another.
func (e *Engine) fixedNetwork(ctx context.Context, name string, o network.CreateOptions) error {
	var taken error
	for range 5 {
		if _, err := e.api.NetworkCreate(ctx, name, o); err != nil {
			return err
		}
		n, err := e.api.NetworkInspect(ctx, name, network.InspectOptions{})
		if err != nil {
			return err
		}
		if err := e.api.NetworkRemove(ctx, n.ID); err != nil {
			return err
		}
		fixed := o
		fixed.IPAM = &network.IPAM{}
		for _, c := range n.IPAM.Config {
			fixed.IPAM.Config = append(fixed.IPAM.Config, network.IPAMConfig{Subnet: c.Subnet, Gateway: c.Gateway})
		}
		if _, taken = e.api.NetworkCreate(ctx, name, fixed); taken == nil {
			return nil
		}
	}
	return taken
}

// address gives every plan its address, and the names of all services.
func (e *Engine) address(ctx context.Context, room sandbox.Spec, plans []plan) error {
	ctx, cancel := e.short(ctx)
	defer cancel()
	n, err := e.api.NetworkInspect(ctx, innerNetwork(room.Name), network.InspectOptions{})
	if err != nil {
		return fmt.Errorf("network %s: %w", innerNetwork(room.Name), err)
	}
	var subnet netip.Prefix
	var gateway string
	for _, c := range n.IPAM.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil && p.Addr().Is4() {
			subnet, gateway = p, c.Gateway
		}
	}
	if !subnet.IsValid() {
		return fmt.Errorf("network %s has no IPv4 subnet: services need one under runtime %s", n.Name, e.learned.Runtime)
	}
	gateway, _, _ = strings.Cut(gateway, "/")
	next := subnet.Masked().Addr().Next()
	var hosts []string
	for i := range plans {
		if next.String() == gateway {
			next = next.Next()
		}
		if !subnet.Contains(next.Next()) { // the last one is for broadcasts
			return fmt.Errorf("network %s: %s is too small for %d containers: give the engine larger default-address-pools", n.Name, subnet, len(plans))
		}
		plans[i].address = next.String()
		if plans[i].role == sandbox.Service {
			for _, name := range append([]string{plans[i].name}, plans[i].spec.Aliases...) {
				hosts = append(hosts, name+":"+next.String())
			}
		}
		next = next.Next()
	}
	for i := range plans {
		plans[i].hosts = hosts
	}
	return nil
}

// endpoint is a container's place on a network of its room.
func endpoint(room sandbox.Spec, p plan, name string) *network.EndpointSettings {
	s := &network.EndpointSettings{Aliases: p.spec.Aliases}
	if p.address != "" && name == innerNetwork(room.Name) {
		s.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: p.address}
	}
	return s
}

// resolver is a resolv.conf that leads past the engine's name server. On
// an engine elsewhere there is no file to mount, and names beyond the room
// must stand in network.extra_hosts.
func (e *Engine) resolver(room sandbox.Spec, wired bool) []file {
	dir := e.stateDir(room.Name)
	if !wired && (!e.ownKernel() || !e.local || dir == "") {
		return nil
	}
	text := resolvConf(room.Network, wired)
	if text == "" {
		return nil
	}
	return []file{{path: filepath.Join(dir, "resolv.conf"), target: "/etc/resolv.conf", text: text}}
}

// file is one of the room's state folder that a container gets, read-only.
type file struct{ path, target, text string }

func (p *plan) bring(files ...file) {
	for _, f := range files {
		p.files = append(p.files, f)
		p.mounts = append(p.mounts, mount.Mount{Type: mount.TypeBind, Source: f.path, Target: f.target, ReadOnly: true})
	}
}

// writeFiles puts them there, before the engine mounts them.
func (e *Engine) writeFiles(room string, plans []plan) error {
	for _, p := range plans {
		for _, f := range p.files {
			if err := os.MkdirAll(e.stateDir(room), 0o700); err != nil {
				return fmt.Errorf("state folder: %w", err)
			}
			if err := os.WriteFile(f.path, []byte(f.text), 0o644); err != nil {
				return fmt.Errorf("state folder: %w", err)
			}
		}
	}
	return nil
}

// resolvConf is what the admin chose, for the rest what this machine has; it
// is empty when nobody knows a name server that a container can reach. wired
// rooms speak no IPv6.
func resolvConf(n sandbox.Network, wired bool) string {
	far := func(server string) bool {
		a, err := netip.ParseAddr(server)
		return wired && (err != nil || !a.Unmap().Is4())
	}
	servers, search := slices.DeleteFunc(slices.Clone(n.DNS), far), n.DNSSearch
	for _, file := range hostResolvers {
		if len(servers) > 0 {
			break
		}
		var also []string
		servers, also = readResolvers(file)
		servers = slices.DeleteFunc(servers, far)
		if len(search) == 0 {
			search = also
		}
	}
	if len(servers) == 0 {
		return ""
	}
	text := "nameserver " + strings.Join(servers, "\nnameserver ") + "\n"
	if len(search) > 0 {
		text += "search " + strings.Join(search, " ") + "\n"
	}
	return text
}

// readResolvers reads a resolv.conf; servers on the loopback are left out, for
// in a container that is another loopback.
func readResolvers(file string) (servers, search []string) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil && !a.IsLoopback() {
				servers = append(servers, a.String())
			}
		case "search":
			search = slices.Clone(words[1:])
		}
	}
	return servers, search
}
