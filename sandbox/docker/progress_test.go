package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"cleanroom/sandbox"
)

func TestPullError(t *testing.T) {
	for text, user := range map[string]bool{
		`manifest for x:1 not found: manifest unknown: manifest unknown`:                                          true,
		`pull access denied for x, repository does not exist or may require 'docker login': denied`:               true,
		`unauthorized: authentication required`:                                                                   true,
		`no matching manifest for linux/arm64/v8 in the manifest list entries`:                                    true,
		`Head "https://r.test/v2/x/manifests/1": no basic auth credentials`:                                       true,
		`received unexpected HTTP status: 503 Service Unavailable`:                                                false,
		`Get "https://r.test/v2/": dial tcp: lookup r.test: no such host`:                                         false,
		`Get "https://r.test/v2/": net/http: TLS handshake timeout`:                                               false,
		`Get "https://r.test/v2/": x509: certificate signed by unknown authority`:                                 false,
		`toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase`: false,
		`failed to register layer: no space left on device`:                                                       false,
		`the engine's answer broke off: unexpected EOF`:                                                           false,
	} {
		err := pullError(t.Context(), "x:1", errors.New(text))
		if errors.Is(err, sandbox.ErrUser) != user || !strings.Contains(err.Error(), "pull of image x:1") || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: the user's is %t", err, !user)
		}
	}
	if err := pullError(t.Context(), "x", cerrdefs.ErrInvalidArgument); !errors.Is(err, sandbox.ErrUser) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("took longer than pull_timeout"))
	if err := pullError(ctx, "x", errors.New("not found")); errors.Is(err, sandbox.ErrUser) || !strings.Contains(err.Error(), "pull_timeout") {
		t.Error(err)
	}
}

// slowly gives one line a second.
type slowly struct{ lines []string }

func (s *slowly) Read(b []byte) (int, error) {
	if len(s.lines) == 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	n := copy(b, s.lines[0])
	s.lines = s.lines[1:]
	return n, nil
}

func TestShowPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // its clock moves as we sleep
		stream := &slowly{}
		for i := range 10 {
			stream.lines = append(stream.lines, fmt.Sprintf(`{"id":"a","status":"Downloading","progressDetail":{"current":%d,"total":10000000}}`+"\n", i*1000000))
		}
		stream.lines = append(stream.lines, `{"id":"a","status":"Download complete"}`, `{"id":"b","status":"Already exists"}`, `{"status":"Digest: sha256:0"}`)
		var b strings.Builder
		if _, err := showPull(stream, &b); err != nil {
			t.Fatal(err)
		}
		want := "  2MB of 10MB, 0 of 1 layers\n  5MB of 10MB, 0 of 1 layers\n  8MB of 10MB, 0 of 1 layers\n  10MB of 10MB, 1 of 1 layers\n"
		if b.String() != want {
			t.Errorf("%q", b.String())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var flood, b strings.Builder
		for i := range 100000 {
			fmt.Fprintf(&flood, `{"id":"%d","status":"Downloading","progressDetail":{"current":1,"total":2}}`, i)
		}
		if _, err := showPull(io.MultiReader(strings.NewReader(flood.String()), &slowly{lines: strings.Fields("{} {} {} {}")}), &b); err != nil {
			t.Fatal(err)
		}
		if b.String() != "  1kB of 2kB, 0 of 1000 layers\n" {
			t.Errorf("%q", b.String())
		}
	})
	for stream, want := range map[string]string{
		`{"status":"x"}{"error":"no such thing"}{"status":"y"}`: "no such thing",
		`{"status":"x"`: "broke off", `nonsense`: "broke off", `[]`: "broke off", `{"progressDetail":{"current":"x"}}`: "broke off",
		``: "", `{}`: "", `null`: "", `{"id":"a","status":"Downloading","progressDetail":{"current":-1,"total":-9223372036854775808}}`: "",
	} {
		_, err := showPull(strings.NewReader(stream), io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", stream, err)
		}
	}
}
