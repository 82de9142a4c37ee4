package docker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/pulled"
)

// torn is a record that nobody can read. Nothing may be written over it.
type torn struct{ t *testing.T }

func (torn) Read() ([]byte, error) { return []byte(`{"format": "cleanroom pul`), nil }

func (k torn) Change(_ context.Context, change func([]byte) ([]byte, error)) error {
	text, _ := k.Read()
	text, err := change(text)
	if text != nil {
		k.t.Errorf("%q is written over it", text)
	}
	return err
}

// Without its record an engine gives no image that is there, and uses no login:
// it could not keep what that brings.
func TestWithoutTheRecord(t *testing.T) {
	e := testEngine(t, func(o *Options) { o.Pulled = torn{t} })
	withLogin := local("registry.invalid/app")
	withLogin.PullPolicies = []string{"always"}
	withLogin.Auth = func(context.Context, string) (auth, source string, err error) { return "bG9naW4=", "a test", nil }
	for name, job := range map[string]sandbox.Container{"present": local("cleanroom/busybox"), "login": withLogin} {
		s := testSpec(sandbox.Hardened, "cleanroom/busybox")
		s.Job = job
		if _, err := makeRoom(t, e, s); !errors.Is(err, pulled.ErrRecord) || errors.Is(err, sandbox.ErrUser) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A job hears nothing of a name that is not its own.
func TestOffers(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	ref, err := reference.ParseNormalizedNamed("shop/app:1")
	if err != nil {
		t.Fatal(err)
	}
	p := picture{digests: []string{"shop/app@" + digest, "registry.test/admin/own@" + digest, "<none>@<none>"}}
	got := offers(ref, p, []pulled.Source{{Repository: "docker.io/shop/app", Digest: digest}, {Repository: "registry.test/hidden/app", Digest: digest}})
	if len(got) != 2 || got[0].from.String() != "docker.io/shop/app@"+digest || !got[0].named || got[1].from.Name() != "registry.test/hidden/app" || got[1].named {
		t.Errorf("%+v", got)
	}
	refuses := errors.New("registry.test/hidden/app: unauthorized")
	c := sandbox.Container{Image: "shop/app:1", Auth: func(context.Context, string) (auth, source string, err error) { return "", "", refuses }}
	e := &Engine{}
	for _, o := range [][]offer{got[1:], got} {
		err := withheld(c.Image, e.ask(t.Context(), c, p, o))
		if !errors.Is(err, sandbox.ErrUser) || strings.Contains(err.Error(), "\n") || len(o) == 1 && strings.Contains(err.Error(), "hidden") {
			t.Error(err)
		}
	}
}

func TestShowPullTellsTheDigest(t *testing.T) {
	var log bytes.Buffer
	digest, err := showPull(strings.NewReader(`{"status":"Pulling from app","id":"1"}{"status":"Digest: sha256:no","id":"a layer's"}{"status":"Digest: sha256:yes"}{"status":"Status: Image is up to date"}`), &log)
	if digest != "sha256:yes" || err != nil || log.Len() > 0 {
		t.Errorf("%q, %v, %q", digest, err, log.String())
	}
}
