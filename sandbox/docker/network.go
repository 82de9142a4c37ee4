package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// A room has one bridge of its own. A strict room has none for its job, or,
// with services, an inner one that leads nowhere: internal, without an address
// of the host on it (an internal bridge's gateway otherwise reaches every
// service the host has on 0.0.0.0), and where the host takes no packet from
// (a broadcast would still reach such services). The helper then has an outer one,
// for it must reach GitLab.

func hasInner(room sandbox.Spec) bool { return reaches(room) || len(room.Services) > 0 }

func (e *Engine) networks(ctx context.Context, room sandbox.Spec) error {
	g, ctx := errgroup.WithContext(ctx)
	if hasInner(room) {
		g.Go(func() error { return e.network(ctx, room, innerNetwork(room.Name), !reaches(room)) })
	}
	if !reaches(room) {
		g.Go(func() error { return e.network(ctx, room, outerNetwork(room.Name), false) })
	}
	return g.Wait()
}

func (e *Engine) network(ctx context.Context, room sandbox.Spec, name string, closed bool) error {
	ctx, cancel := e.whole(ctx)
	defer cancel()
	o := network.CreateOptions{Driver: "bridge", Internal: closed, Labels: labels(room, "network"),
		Options: map[string]string{"com.docker.network.bridge.name": bridge(name)}}
	if room.Network.MTU > 0 {
		o.Options["com.docker.network.driver.mtu"] = strconv.Itoa(room.Network.MTU)
	}
	if closed {
		o.Options["com.docker.network.bridge.inhibit_ipv4"] = "true"
	}
	create := func(ctx context.Context, name string, o network.CreateOptions) error {
		_, err := e.api.NetworkCreate(ctx, name, o)
		return err
	}
	if name == innerNetwork(room.Name) && e.fixes(room) {
		create = e.fixedNetwork
	}
	if err := create(ctx, name, o); err != nil {
		return fmt.Errorf("network %s: %w", name, err)
	}
	if err := fault.At("room.network.made"); err != nil {
		return err
	}
	if closed && e.local {
		return deafen(name)
	}
	return nil
}

// deafen has the host drop what comes from a bridge that it has no route to.
// Where its network is not ours to see (we run in a container) it is left to
// the host's own setting, which doctor looks at.
func deafen(name string) error {
	file := "/proc/sys/net/ipv4/conf/" + bridge(name) + "/rp_filter"
	if err := os.WriteFile(file, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("network %s: %w", name, err)
	}
	return nil
}

// join says which networks a container of the room is on.
func join(room sandbox.Spec, role sandbox.Role) (first string, also []string) {
	switch {
	case reaches(room):
		return innerNetwork(room.Name), nil
	case role == sandbox.Helper && hasInner(room):
		return outerNetwork(room.Name), []string{innerNetwork(room.Name)}
	case role == sandbox.Helper:
		return outerNetwork(room.Name), nil
	case hasInner(room):
		return innerNetwork(room.Name), nil
	default:
		return network.NetworkNone, nil
	}
}
