package docker

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cleanroom/sandbox"
)

// engineUID is the uid that the engine takes for a user who is not a plain
// number: its own reading of passwd(5), tolerance and all (moby/sys/user,
// ParsePasswdFilter and GetExecUser).
func engineUID(passwd, user string) (uid int, found bool) {
	name, _, _ := strings.Cut(user, ":")
	if n, err := strconv.Atoi(name); err == nil {
		return n, true
	}
	for _, line := range strings.Split(passwd, "\n") {
		f := strings.Split(strings.TrimSpace(line), ":")
		if f[0] == "" && len(f) == 1 || f[0] != name {
			continue
		}
		if len(f) > 2 {
			uid, _ = strconv.Atoi(f[2])
		}
		return uid, true
	}
	return 0, false
}

// An image's author wrote the text, the job's author the name: what we find is
// whom the engine will find, or an error.
func FuzzFindUser(f *testing.F) {
	for _, passwd := range []string{
		"", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:\n", "app\napp:x:1000:1000", " app:x:0:0\napp:x:5:5", "app:x:-0:0\r\napp:x:5:5\r\n",
		"app:x:+0:0", "app:::", "::::\n\x00app:x:1:1", "app:x:99999999999999999999:1", "app:x:1\napp:x:2:2", "+0:x:5:5",
	} {
		f.Add([]byte(passwd), "app")
		f.Add([]byte(passwd), "+0:app")
	}
	f.Fuzz(func(t *testing.T, passwd []byte, user string) {
		if isRoot(user) || numeric(user) {
			return // who asks about others only
		}
		owner, err := findUser(bytes.NewReader(passwd), user)
		if err != nil {
			if owner != "" || !errors.Is(err, sandbox.ErrUser) || len(err.Error()) > 4*len(user)+200 {
				t.Errorf("%q, %v", owner, err)
			}
			return
		}
		uid, gid := ownerIDs(owner)
		if !numeric(owner) || !numeric(gid) {
			t.Errorf("%q of %q is %q", user, passwd, owner)
		}
		want, found := engineUID(string(passwd), user)
		if n, _ := strconv.Atoi(uid); !found || n != want {
			t.Errorf("%q of %q is uid %d to the engine, %s to us", user, passwd, want, uid)
		}
	})
}

// A registry's words reach the stream through the engine.
func FuzzShowPull(f *testing.F) {
	f.Add([]byte(`{"id":"a","status":"Downloading","progressDetail":{"current":1,"total":2}}{"id":"a","status":"Pull complete"}`))
	f.Add([]byte(`{"error":"no such thing","errorDetail":{"message":"no such thing"}}`))
	f.Add([]byte(`{"status":"Downloading","progressDetail":{"current":9223372036854775807,"total":-9223372036854775808}}`))
	f.Add([]byte(`{"id":1}`))
	f.Add([]byte(`{"progressDetail":[]}`))
	f.Add([]byte("\x00{"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		digest, err := showPull(bytes.NewReader(stream), io.Discard)
		if twice, again := showPull(bytes.NewReader(stream), io.Discard); (err == nil) != (again == nil) || digest != twice {
			t.Errorf("%q, %v, then %q, %v", digest, err, twice, again)
		}
	})
}

func FuzzSamePlatform(f *testing.F) {
	f.Add("linux/amd64", "linux", "amd64", "")
	f.Add("linux/arm/v7", "linux", "arm", "v6")
	f.Add("arm64", "linux", "arm64", "v8")
	f.Add("//", "", "", "")
	f.Fuzz(func(t *testing.T, want, os, arch, variant string) {
		if len(want) > 1000 {
			return
		}
		same := samePlatform(want, os, arch, variant)
		p := platform(want)
		if p != nil && same && os != "" && arch != "" && (!strings.EqualFold(p.OS, os) || !strings.EqualFold(p.Architecture, arch)) {
			t.Errorf("%q is taken for %s/%s/%s", want, os, arch, variant)
		}
	})
}

// Whatever a container prints, an error quotes a bounded, readable end of it.
func FuzzTail(f *testing.F) {
	f.Add([]byte("one\ntwo"), 1)
	f.Add([]byte("\xff\xfe\n\r\n"), 3)
	f.Add(bytes.Repeat([]byte("é\n"), 3000), 1000)
	f.Fuzz(func(t *testing.T, said []byte, piece int) {
		tl := newTail(nil)
		for rest := said; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			tl.Write(rest[:n])
			rest = rest[n:]
		}
		q := tl.quote()
		if len(q) > tailMax+20*len("\n  | ")+30 || !utf8.ValidString(q) || strings.Count(q, "\n") > 20 {
			t.Errorf("%d bytes: %q", len(q), q)
		}
		if (q == "") != (len(bytes.TrimSpace(bytes.ToValidUTF8(said[max(0, len(said)-tailMax):], []byte("?")))) == 0) {
			t.Errorf("%q for %q", q, said)
		}
	})
}

// An image's configuration is its author's to choose.
func FuzzPorts(f *testing.F) {
	for _, port := range []string{"80/tcp", "80", "65536/tcp", "-1", "00080/tcp", "8000-8010/tcp", "+1", "/", "80/tcp/udp"} {
		f.Add(port, "81/tcp")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p := pictureOf(func(c *dockerspec.DockerOCIImageConfig) { c.ExposedPorts = map[string]struct{}{a: {}, b: {}} })
		seen := ""
		for _, port := range (&running{plan: plan{picture: p}}).ports() {
			n, err := strconv.Atoi(port)
			if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port || port == seen {
				t.Errorf("%q of %q and %q", port, a, b)
			}
			seen = port
		}
	})
}
