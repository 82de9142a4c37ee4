package docker

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/wire"
)

// wiredRoom is one that we connect.
func wiredRoom(t *testing.T, e *Engine, profile sandbox.Profile) sandbox.Spec {
	t.Helper()
	s := testSpec(profile, "cleanroom/busybox")
	s.Network.ExtraHosts = []string{"gitlab.test:192.0.2.77"}
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	found, err := e.find(t.Context(), s.Name)
	if err != nil || !found.wired() {
		t.Fatalf("the room has networks of the engine's: %v, %v", found.items(), err)
	}
	return s
}

func address(t *testing.T, e *Engine, s sandbox.Spec, role sandbox.Role) string {
	t.Helper()
	out, _ := run(t, e, s, role, "while read address name; do [ $name != "+containerName(s.Name, role)+" ] || echo $address; done < /etc/hosts")
	if a, err := netip.ParseAddr(strings.TrimSpace(out)); err != nil || !e.options.Wires.Subnet.Contains(a) {
		t.Fatalf("address of %s: %q", s.Name, out)
	}
	return strings.TrimSpace(out)
}

// hello serves one word, on every address of this machine.
func hello(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "hello %s\n", c.RemoteAddr())
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// serve has a room's job wait for whoever connects to its port 8000.
func serve(t *testing.T, e *Engine, s sandbox.Spec) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "serve", Role: sandbox.Job,
			Script: strings.NewReader("echo found me | nc -w 10 -l -p 8000 >/dev/null"), Output: io.Discard, Grace: time.Second})
		done <- err
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWiredRoomReachesTheHostAndNoRoom(t *testing.T) {
	e := testEngine(t, nil)
	port := hello(t)
	one, other := wiredRoom(t, e, sandbox.Hardened), wiredRoom(t, e, sandbox.Compatible)
	mine, its := address(t, e, one, sandbox.Job), address(t, e, other, sandbox.Job)
	out, _ := run(t, e, one, sandbox.Job, fmt.Sprintf("nc -w 5 %s %d </dev/null; cat /etc/hosts; hostname; cat /proc/net/if_inet6", e.options.Wires.Gateway(), port))
	for _, want := range []string{"hello " + mine + ":", "127.0.0.1\tlocalhost", "192.0.2.77\tgitlab.test", "\n" + containerName(one.Name, sandbox.Job) + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "eth0") {
		t.Errorf("it speaks IPv6: %q", out)
	}
	serve(t, e, other)
	from, _ := run(t, e, one, sandbox.Job, fmt.Sprintf("sleep 1; nc -w 3 %s 8000 </dev/null", its))
	helpers, _ := run(t, e, one, sandbox.Helper, fmt.Sprintf("timeout 3 bash -c 'cat < /dev/tcp/%s/8000'", its))
	if strings.Contains(from+helpers, "found me") {
		t.Errorf("a room reached another: %q, %q", from, helpers)
	}
	c, err := net.Dial("tcp", its+":8000") // the host does, so there was something to be reached
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestWiredRoomReachesNoContainerOfAnotherNetwork(t *testing.T) {
	e := testEngine(t, nil)
	other := testSpec(sandbox.Hardened, "cleanroom/busybox")
	plain := testEngine(t, func(o *Options) { o.Wires = wire.Net{} })
	if log, err := makeRoom(t, plain, other); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	c, err := e.api.ContainerInspect(t.Context(), containerName(other.Name, sandbox.Job))
	if err != nil {
		t.Fatal(err)
	}
	its := c.NetworkSettings.Networks[innerNetwork(other.Name)].IPAddress
	one := wiredRoom(t, e, sandbox.Hardened)
	mine := address(t, e, one, sandbox.Job)
	serve(t, plain, other)
	if out, _ := run(t, e, one, sandbox.Job, fmt.Sprintf("sleep 1; nc -w 3 %s 8000 </dev/null", its)); strings.Contains(out, "found me") {
		t.Errorf("a room reached the engine's network: %q", out)
	}
	if conn, err := net.Dial("tcp", its+":8000"); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	serve(t, e, one)
	if out, _ := run(t, plain, other, sandbox.Job, fmt.Sprintf("sleep 1; nc -w 3 %s 8000 </dev/null", mine)); strings.Contains(out, "found me") {
		t.Errorf("the engine's network reached a room: %q", out)
	}
}

func TestWireGoesWithItsRoom(t *testing.T) {
	e := testEngine(t, nil)
	s := wiredRoom(t, e, sandbox.Hardened)
	job := containerName(s.Name, sandbox.Job)
	if _, err := netlink.LinkByName(wire.Name(job)); err != nil {
		t.Fatal(err)
	}
	wiped(t, e, s.Name)
	if _, err := netlink.LinkByName(wire.Name(job)); err == nil {
		t.Error("its interface is left")
	}
	// As after an engine that was killed: an interface and no container.
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: wire.Name(job)}, PeerName: "crvtest"}); err != nil {
		t.Fatal(err)
	}
	ev, err := e.Wipe(t.Context(), s.Name)
	if err != nil || !slices.ContainsFunc(ev.Removed, func(i sandbox.Item) bool { return i.Kind == "interface" && i.Name == wire.Name(job) }) {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, err := netlink.LinkByName(wire.Name(job)); err == nil {
		t.Error("its interface is left")
	}
}

func TestStrictWiredRoomHasNoNetwork(t *testing.T) {
	e := testEngine(t, nil)
	port := hello(t)
	s := wiredRoom(t, e, sandbox.Strict)
	out, _ := run(t, e, s, sandbox.Job, fmt.Sprintf("cat /proc/net/dev; nc -w 3 %s %d </dev/null", e.options.Wires.Gateway(), port))
	if strings.Contains(out, "eth0") || strings.Contains(out, "hello") || !strings.Contains(out, "lo:") {
		t.Errorf("%q", out)
	}
	if out, _ = run(t, e, s, sandbox.Helper, fmt.Sprintf("cat < /dev/tcp/%s/%d", e.options.Wires.Gateway(), port)); !strings.Contains(out, "hello ") {
		t.Errorf("the helper does not reach the host: %q", out)
	}
}

func TestHostThatIsNotMadeForWires(t *testing.T) {
	var why error
	e := testEngine(t, func(o *Options) {
		o.Wires.Subnet = netip.MustParsePrefix("172.0.0.0/8") // the engine's own networks are in it
		o.Unfit = func(err error) { why = err }
	})
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if found, err := e.find(t.Context(), s.Name); err != nil || len(found.networks) != 1 || why == nil || !strings.Contains(why.Error(), "network.subnet") {
		t.Errorf("%v, %v; %v", found.items(), err, why)
	}
}

// A room's packets leave this machine with its address and no other, and
// nobody beyond can begin to speak to a room.
func TestWiredRoomBehindItsHost(t *testing.T) {
	e := testEngine(t, nil)
	s := wiredRoom(t, e, sandbox.Compatible) // which may make any packet
	const far, near, name = "192.0.2.129", "192.0.2.130", "crtest-far"
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("netns add " + name)
	t.Cleanup(func() { ip("netns delete " + name) })
	ip("link add crtest0 type veth peer name eth0 netns " + name)
	ip("address add " + near + "/31 dev crtest0")
	ip("link set crtest0 up")
	ip("-n " + name + " address add " + far + "/30 dev eth0")
	ip("-n " + name + " link set eth0 up")
	ip("route replace " + far + "/32 dev crtest0")
	ip("-n " + name + " route add default via " + near)
	listen := exec.Command("ip", "netns", "exec", name, "python3", "-c",
		"import socket\ns=socket.create_server(('',8000))\nc,a=s.accept()\nc.send(('from '+a[0]).encode())")
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	defer listen.Wait()
	out, _ := run(t, e, s, sandbox.Job, "for i in 1 2 3 4 5 6 7 8; do nc -w 2 "+far+" 8000 </dev/null 2>/dev/null && break; sleep 1; done")
	if strings.TrimSpace(out) != "from "+near {
		t.Errorf("what the far end saw: %q", out)
	}
	mine := address(t, e, s, sandbox.Job)
	serve(t, e, s)
	reach := exec.Command("ip", "netns", "exec", name, "python3", "-c",
		"import socket,time\ntime.sleep(1)\ns=socket.create_connection(('"+mine+"',8000),3)\nprint(s.recv(100))")
	if out, err := reach.CombinedOutput(); err == nil {
		t.Errorf("the far end reached a room: %s", out)
	}
}
