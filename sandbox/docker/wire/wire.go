// Package wire connects a container to the world without the engine: a pair of
// virtual interfaces, one end in the container, and a route to it.
//
// The engine's own way is a bridge for each network, and a program that it
// runs for each container when that starts; on a small machine those take most
// of the time that a room takes.
//
// What it promises: a room reaches what the host reaches, but for other rooms
// and the engine's networks, and nobody reaches the room. There is no bridge, so
// no room sees another's frames; a packet that bears another address than its
// room's own is dropped by the host.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// prefix begins the names of the host's ends, and of nothing else.
const prefix = "crv"

// inside is the name of the other end.
const inside = "eth0"

// Net is where rooms get their addresses.
type Net struct {
	Subnet netip.Prefix // IPv4, at most /28: no other network of the host's
	MTU    int          // bytes; 0: the kernel's default
}

// Name of the host's end of a container's wire. It follows from the
// container's, so that whoever wipes a room can look for it.
func Name(container string) string {
	sum := sha256.Sum256([]byte(container))
	return prefix + hex.EncodeToString(sum[:6])
}

// Gateway is the host, as rooms see it.
func (n Net) Gateway() netip.Addr { return n.Subnet.Masked().Addr().Next() }

// attempts to find an address that is free: in a subnet that is half full each
// has a chance of a half.
const attempts = 64

// Plug connects a container by the process that runs in it, and returns its
// address. It must have no interface but lo.
func (n Net) Plug(container string, pid int) (netip.Addr, error) {
	addr, err := n.plug(Name(container), pid)
	if err != nil {
		return addr, fmt.Errorf("network of container %s: %w", container, err)
	}
	return addr, nil
}

func (n Net) plug(name string, pid int) (netip.Addr, error) {
	room, err := netns.GetFromPid(pid)
	if err != nil {
		return netip.Addr{}, err
	}
	defer room.Close()
	within, err := netlink.NewHandleAt(room)
	if err != nil {
		return netip.Addr{}, err
	}
	defer within.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: n.MTU}, PeerName: inside, PeerNamespace: netlink.NsFd(room),
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	host, err := netlink.LinkByName(name)
	if err != nil {
		return netip.Addr{}, err
	}
	// Only what comes from the room's own address gets in.
	for _, set := range [][2]string{{"ipv4/conf/" + name + "/rp_filter", "1"}, {"ipv6/conf/" + name + "/disable_ipv6", "1"}} {
		if err := os.WriteFile("/proc/sys/net/"+set[0], []byte(set[1]), 0); err != nil && !(strings.HasPrefix(set[0], "ipv6") && errors.Is(err, os.ErrNotExist)) {
			return netip.Addr{}, err
		}
	}
	gateway := single(n.Gateway())
	if err := netlink.AddrAdd(host, &netlink.Addr{IPNet: gateway, Scope: unix.RT_SCOPE_LINK}); err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addr, err := n.lease(host)
	if err != nil {
		return netip.Addr{}, err
	}
	if err := furnish(within, single(addr), gateway); err != nil {
		return netip.Addr{}, fmt.Errorf("inside: %w", err)
	}
	return addr, nil
}

// lease finds a free address: the host's routes say which are taken, and the
// kernel lets one of two takers have it.
func (n Net) lease(host netlink.Link) (netip.Addr, error) {
	for range attempts {
		addr := n.random()
		err := netlink.RouteAdd(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: single(addr), Scope: netlink.SCOPE_LINK})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return addr, fmt.Errorf("route to %s: %w", addr, err)
		}
		return addr, nil
	}
	return netip.Addr{}, fmt.Errorf("%s has no free address: set a larger network.subnet", n.Subnet)
}

// random is an address of the subnet that is neither its first two nor its
// last.
func (n Net) random() netip.Addr {
	first := n.Subnet.Masked().Addr().As4()
	size := uint32(1) << (32 - n.Subnet.Bits())
	number := uint32(first[0])<<24 | uint32(first[1])<<16 | uint32(first[2])<<8 | uint32(first[3])
	number += 2 + rand.Uint32N(size-3)
	return netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
}

func furnish(within *netlink.Handle, addr, gateway *net.IPNet) error {
	lo, err := within.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := within.LinkSetUp(lo); err != nil {
		return err
	}
	end, err := within.LinkByName(inside)
	if err != nil {
		return err
	}
	if err := within.AddrAdd(end, &netlink.Addr{IPNet: addr}); err != nil {
		return err
	}
	if err := within.LinkSetUp(end); err != nil {
		return err
	}
	if err := within.RouteAdd(&netlink.Route{LinkIndex: end.Attrs().Index, Dst: gateway, Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return within.RouteAdd(&netlink.Route{LinkIndex: end.Attrs().Index, Gw: gateway.IP})
}

// Unplug removes what is left of a container's wire: nothing, as a rule, for it
// goes with the container. False: there was nothing.
func Unplug(container string) (bool, error) {
	name := Name(container)
	if _, err := os.Lstat("/sys/class/net/" + name); err != nil {
		return false, nil
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var gone netlink.LinkNotFoundError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &gone), errors.Is(err, unix.ENODEV): // by itself, just now
		return false, nil
	}
	return false, fmt.Errorf("interface %s: %w", name, err)
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
