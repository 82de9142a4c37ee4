package docker

import (
	"os"
	"path/filepath"
	"testing"

	"cleanroom/sandbox"
)

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	hidden := file("hidden", "# stub\nnameserver 127.0.0.53\noptions edns0\nsearch stub.example\n")
	real := file("real", "nameserver 192.0.2.1\nnameserver ::1\nnameserver 2001:db8::1\nsearch a.example b.example\nnameserver\n")
	before := hostResolvers
	t.Cleanup(func() { hostResolvers = before })
	for _, c := range []struct {
		files []string
		room  sandbox.Network
		wired bool
		want  string
	}{
		{nil, sandbox.Network{}, false, ""},
		{[]string{hidden}, sandbox.Network{}, false, ""},
		{[]string{real}, sandbox.Network{}, false, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example b.example\n"},
		{[]string{hidden, real}, sandbox.Network{}, false, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch stub.example\n"},
		{[]string{real}, sandbox.Network{DNS: []string{"192.0.2.9"}}, false, "nameserver 192.0.2.9\n"},
		{[]string{real}, sandbox.Network{DNSSearch: []string{"c.example"}}, false, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch c.example\n"},
		{[]string{real}, sandbox.Network{}, true, "nameserver 192.0.2.1\nsearch a.example b.example\n"},
		{[]string{real}, sandbox.Network{DNS: []string{"2001:db8::9", "192.0.2.9"}}, true, "nameserver 192.0.2.9\n"},
		{[]string{hidden}, sandbox.Network{DNS: []string{"2001:db8::9"}}, true, ""},
	} {
		hostResolvers = c.files
		if got := resolvConf(c.room, c.wired); got != c.want {
			t.Errorf("%v %v: %q, want %q", c.files, c.room, got, c.want)
		}
	}
}

func TestDigestOfTheNameAsked(t *testing.T) {
	digests := []string{"registry.example/a@sha256:" + hex64("1"), "python@sha256:" + hex64("2")}
	for image, want := range map[string]string{
		"registry.example/a:1": digests[0], "python:3": digests[1], "docker.io/library/python": digests[1], "cleanroom/local": "", "sha256:" + hex64("3"): "",
	} {
		if got := digestOf(image, digests); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

func hex64(digit string) string {
	s := ""
	for range 64 {
		s += digit
	}
	return s
}
