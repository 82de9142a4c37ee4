package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// place is a process in a network of its own, as a container that nobody has
// connected.
func place(t *testing.T) (pid int) {
	t.Helper()
	c := exec.Command("unshare", "--net", "sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	for range 500 { // until it has left ours
		ours, err := os.Readlink("/proc/self/ns/net")
		its, bad := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid))
		if err = errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		if its != ours {
			return c.Process.Pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("unshare made no network")
	return 0
}

func in(t *testing.T, pid int, command string) {
	t.Helper()
	out, err := exec.Command("nsenter", "--net", "--target", strconv.Itoa(pid), "bash", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// Even one who may do anything within its network is heard by its own address
// alone.
func TestForgedAddressIsDropped(t *testing.T) {
	host, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	pid, name := place(t), "test-forger-"+strconv.Itoa(os.Getpid())
	addr, err := testNet.Plug(name, pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Unplug(name) })
	to := fmt.Sprintf("/dev/udp/%s/%d", testNet.Gateway(), host.LocalAddr().(*net.UDPAddr).Port)
	in(t, pid, "ip address add 100.127.255.254/32 dev eth0 && ip route replace default via "+testNet.Gateway().String()+" dev eth0 src 100.127.255.254 && "+
		"ip route replace "+testNet.Gateway().String()+"/32 dev eth0 src 100.127.255.254 && echo forged > "+to)
	in(t, pid, "ip route replace "+testNet.Gateway().String()+"/32 dev eth0 src "+addr.String()+" && echo genuine > "+to)
	host.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 100)
	n, from, err := host.ReadFrom(b)
	if err != nil || strings.TrimSpace(string(b[:n])) != "genuine" || !strings.HasPrefix(from.String(), addr.String()+":") {
		t.Errorf("the host heard %q of %v: %v", b[:n], from, err)
	}
}

// Two never have one address, and what one had is free when it is gone.
func TestAddressesAreOnesOwn(t *testing.T) {
	n := testNet
	seen := map[string]bool{}
	for i := range 3 {
		name := fmt.Sprintf("test-own-%d-%d", os.Getpid(), i)
		addr, err := n.Plug(name, place(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { Unplug(name) })
		if seen[addr.String()] || !n.Subnet.Contains(addr) {
			t.Errorf("%s twice", addr)
		}
		seen[addr.String()] = true
		if out, err := exec.Command("ip", "route", "get", addr.String()).Output(); err != nil || !strings.Contains(string(out), Name(name)) {
			t.Errorf("the way to %s: %s, %v", addr, out, err)
		}
		if removed, err := Unplug(name); !removed || err != nil {
			t.Errorf("%v, %v", removed, err)
		}
		if removed, err := Unplug(name); removed || err != nil {
			t.Errorf("there is nothing left: %v, %v", removed, err)
		}
		if out, _ := exec.Command("ip", "route", "get", addr.String()).Output(); strings.Contains(string(out), Name(name)) {
			t.Errorf("its route is left: %s", out)
		}
	}
}
