package docker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"cleanroom/sandbox"
)

// A room's bridges have names that follow from the room's, so that whoever
// wipes it can look for what names them, however little is left of the rest:
// 15 bytes, which is what Linux allows, with the engine's own beginning, by
// which admins' tools know bridges of containers.

func bridge(network string) string {
	sum := sha256.Sum256([]byte(network))
	return "br-" + hex.EncodeToString(sum[:6])
}

func bridges(room string) []string {
	return []string{bridge(innerNetwork(room)), bridge(outerNetwork(room))}
}

// packetFilters are the programs that list this machine's rules, and those
// that remove one as it was listed; nft's rules are the engine's own tables
// where it writes such, and removed by it.
var packetFilters = []struct{ list, change []string }{
	{[]string{"iptables-save"}, []string{"iptables"}},
	{[]string{"ip6tables-save"}, []string{"ip6tables"}},
	{[]string{"nft", "list", "ruleset"}, nil},
}

// ofNetworks looks for what the engine should have undone with a room's
// networks, and does not where it is killed or its disk is full: interfaces, and
// rules of the packet filter. What is left is removed. On an engine elsewhere
// there is nothing to be seen from here. A wired room never had a network.
func (e *Engine) ofNetworks(ctx context.Context, room string, wired bool) (found sandbox.Evidence) {
	if !e.local {
		return found
	}
	if found = unplugged(room); wired {
		return found
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	names := bridges(room)
	for _, name := range names {
		if _, err := os.Lstat("/sys/class/net/" + name); err != nil {
			continue
		}
		item := sandbox.Item{Kind: "interface", Name: name}
		if out, err := exec.CommandContext(ctx, "ip", "link", "delete", name).CombinedOutput(); err != nil {
			item.Why = fmt.Sprintf("still there after its network: %v: %s", err, bytes.TrimSpace(out))
			found.Left = append(found.Left, item)
			continue
		}
		found.Removed = append(found.Removed, item)
	}
	each := make([]sandbox.Evidence, len(packetFilters))
	var wg sync.WaitGroup
	for i, f := range packetFilters {
		wg.Go(func() { each[i] = sweepRules(ctx, f.list, f.change, names) })
	}
	wg.Wait()
	for _, one := range each {
		found.Removed, found.Left = append(found.Removed, one.Removed...), append(found.Left, one.Left...)
	}
	return found
}

// sweepRules removes the rules that name a bridge, and tells those that stay.
// Where a program is not there, neither are its rules.
func sweepRules(ctx context.Context, list, change, bridges []string) (ev sandbox.Evidence) {
	found, err := rules(ctx, list, bridges)
	for _, rule := range found {
		item := sandbox.Item{Kind: "rule", Name: rule.String()}
		if change == nil {
			item.Why = "still there after its network"
			ev.Left = append(ev.Left, item)
			continue
		}
		args := append([]string{"--wait", "--table", rule.table, "--delete"}, strings.Fields(rule.text)...)
		if out, err := exec.CommandContext(ctx, change[0], args...).CombinedOutput(); err != nil {
			item.Why = fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
			ev.Left = append(ev.Left, item)
			continue
		}
		ev.Removed = append(ev.Removed, item)
	}
	if err != nil {
		ev.Left = append(ev.Left, sandbox.Item{Kind: "rule", Name: list[0], Why: err.Error()})
	}
	return ev
}

// rule is one of a packet filter, without what adds it.
type rule struct{ table, text string }

func (r rule) String() string { return strings.TrimSpace(r.table + " " + r.text) }

func rules(ctx context.Context, list, bridges []string) (found []rule, err error) {
	c := exec.CommandContext(ctx, list[0], list[1:]...)
	var wrong bytes.Buffer
	c.Stderr = &wrong
	out, err := c.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot be listed: %w: %s", err, bytes.TrimSpace(wrong.Bytes()))
	}
	table := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if t, ok := strings.CutPrefix(line, "*"); ok { // as iptables-save begins a table
			table = t
			continue
		}
		for _, name := range bridges {
			if strings.Contains(line, name) {
				found = append(found, rule{table, strings.TrimPrefix(line, "-A ")})
				break
			}
		}
	}
	return found, nil
}
