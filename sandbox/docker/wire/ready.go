package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnfit is a host where rooms need the engine's networks.
var ErrUnfit = errors.New("no wires on this host")

// The engine's chains of the packet filter that we use: the one that it leaves
// to others and keeps (Docker's documentation, "Docker and iptables"), and the
// one that drops what leads into any of its networks.
const (
	theirs    = "DOCKER-USER"
	isolation = "DOCKER-ISOLATION-STAGE-2"
	ours      = "CLEANROOM"
)

// jumps lead from the engine's chain into ours.
var jumps = []string{"-i " + prefix + "+ -j " + ours, "-o " + prefix + "+ -j " + ours}

// forwards is all of our chain: nothing from room to room, nothing from rooms
// to the engine's networks, nothing to rooms but answers.
var forwards = []string{
	"-i " + prefix + "+ -o " + prefix + "+ -j DROP",
	"-i " + prefix + "+ -j " + isolation,
	"-i " + prefix + "+ -j ACCEPT",
	"-o " + prefix + "+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	"-o " + prefix + "+ -j DROP",
}

func (n Net) masquerade() string {
	return "-s " + n.Subnet.Masked().String() + " ! -o " + prefix + "+ -j MASQUERADE"
}

// Ready sees to it that the host forwards what it should, and only that.
// ErrUnfit says that this host is not made for it: no harm is done.
func (n Net) Ready(ctx context.Context) error {
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || strings.TrimSpace(string(text)) != "1" {
		return fmt.Errorf("%w: it does not forward (net.ipv4.ip_forward)", ErrUnfit)
	}
	// A loose one for all interfaces (2) would win over the strict one (1) that a
	// wire has, and let a room speak in another's name (ip-sysctl in the kernel's
	// documentation).
	if text, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter"); err != nil || strings.TrimSpace(string(text)) == "2" {
		return fmt.Errorf("%w: it does not tell forged addresses: set net.ipv4.conf.all.rp_filter to 0 or 1", ErrUnfit)
	}
	if err := n.free(); err != nil {
		return err
	}
	rules, err := save(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	change, err := n.missing(rules)
	if err != nil || change == "" {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if rules, err = save(ctx); err != nil { // somebody may have been first
		return err
	}
	if change, err = n.missing(rules); err != nil || change == "" {
		return err
	}
	return restore(ctx, change)
}

// free says whether no other network of the host's has an address of ours.
func (n Net) free() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	names := map[int]string{}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		to, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if !ok || bits == 0 || !n.Subnet.Overlaps(netip.PrefixFrom(to, bits)) {
			continue
		}
		if names[r.LinkIndex] == "" {
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				names[r.LinkIndex] = link.Attrs().Name
			} else {
				continue // gone meanwhile, with its routes
			}
		}
		if !strings.HasPrefix(names[r.LinkIndex], prefix) {
			return fmt.Errorf("%w: network.subnet %s meets %s on %s: set another", ErrUnfit, n.Subnet, r.Dst, names[r.LinkIndex])
		}
	}
	return nil
}

// tables are the rules of each chain, in order, by table and chain.
type tables map[string]map[string][]string

// parse reads what iptables-save prints.
func parse(text string) tables {
	all := tables{}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			all[table] = map[string][]string{}
		case table == "":
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			all[table][name] = []string{}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[3:], " ")
			all[table][name] = append(all[table][name], rule)
		}
	}
	return all
}

// missing is what iptables-restore has to be told, empty if nothing.
func (n Net) missing(have tables) (string, error) {
	filter, nat := have["filter"], have["nat"]
	for _, chain := range []string{theirs, isolation} {
		if _, ok := filter[chain]; !ok {
			return "", fmt.Errorf("%w: the packet filter has no chain %s", ErrUnfit, chain)
		}
	}
	var text strings.Builder
	at := len(filter[theirs]) + 1
	if at > 1 && filter[theirs][at-2] == "-j RETURN" { // the engine's own last word there
		at--
	}
	var add []string
	if !slices.Equal(filter[ours], forwards) {
		add = append(add, ":"+ours+" - [0:0]") // which empties it
		for _, rule := range forwards {
			add = append(add, "-A "+ours+" "+rule)
		}
	}
	for _, rule := range jumps {
		if !slices.Contains(filter[theirs], rule) {
			add = append(add, fmt.Sprintf("-I %s %d %s", theirs, at, rule))
			at++
		}
	}
	if len(add) > 0 {
		fmt.Fprintf(&text, "*filter\n%s\nCOMMIT\n", strings.Join(add, "\n"))
	}
	if rule := n.masquerade(); !slices.Contains(nat["POSTROUTING"], rule) {
		fmt.Fprintf(&text, "*nat\n-A POSTROUTING %s\nCOMMIT\n", rule)
	}
	return text.String(), nil
}

func save(ctx context.Context) (tables, error) {
	out, err := run(ctx, "", "iptables-save")
	return parse(out), err
}

// restore makes a change whole or not at all, table by table.
func restore(ctx context.Context, change string) error {
	_, err := run(ctx, change, "iptables-restore", "--noflush", "--wait")
	return err
}

func run(ctx context.Context, in string, argv ...string) (string, error) {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, wrong bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &wrong
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(wrong.Bytes()))
	}
	return out.String(), nil
}

// lock has one of us at a time change the packet filter, as xtables does for
// single rules.
func lock() (unlock func(), err error) {
	f, err := os.OpenFile("/run/cleanroom-wire.lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	return func() { f.Close() }, nil
}
