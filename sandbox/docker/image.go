package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cleanroom/sandbox"
)

// picture is an image that is present: what a container is made from.
type picture struct {
	id     string // sha256:..., what is run whatever the tag says later
	digest string // name@sha256:... when a registry gave one
	// digests are those of all its names.
	digests []string
	config  *dockerspec.DockerOCIImageConfig
}

// image makes sure that c's image is here, by the pull policies in order.
func (e *Engine) image(ctx context.Context, c sandbox.Container, spec sandbox.Spec, w io.Writer) (picture, error) {
	// Names only: an ID is one of an image that somebody's job may have
	// pulled with a login, and no registry can be asked about it.
	ref, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		return picture{}, userErrorf("image %q: %w", c.Image, err)
	}
	ref = reference.TagNameOnly(ref)
	var failures []error
	for _, policy := range c.PullPolicies {
		p, err := e.byPolicy(ctx, c, ref, policy, spec, w)
		if err == nil {
			sayf(w, "Using image %s (%s)", c.Image, p.name())
			return p, nil
		}
		if ctx.Err() != nil {
			return picture{}, err
		}
		failures = append(failures, err)
		if len(failures) < len(c.PullPolicies) {
			sayf(w, "Pull policy %s: %v; trying the next", policy, err)
		}
	}
	return picture{}, worst(failures)
}

// worst picks the error to report: one that is not the user's means that
// trying again may help.
func worst(failures []error) error {
	for _, err := range failures {
		if !errors.Is(err, sandbox.ErrUser) {
			return err
		}
	}
	return failures[len(failures)-1]
}

func (e *Engine) byPolicy(ctx context.Context, c sandbox.Container, ref reference.Named, policy string, spec sandbox.Spec, w io.Writer) (picture, error) {
	var withheld withheldError
	switch policy {
	case "always":
	case "if-not-present", "never":
		p, err := e.present(ctx, c, ref, spec, w)
		if errors.As(err, &withheld) { // for this job it is not present
			if policy == "never" || digested(ref) { // a digest is the same wherever it comes from
				return picture{}, err
			}
			sayf(w, "Image %s is on this runner, but not for this job as it is: pulling it", c.Image)
			break
		}
		if err == nil || !cerrdefs.IsNotFound(err) {
			return p, err
		}
		if policy == "never" {
			return picture{}, userErrorf("image %s is not on this runner and its pull policy is %q: ask the runner's admin to add it, or use another image", c.Image, policy)
		}
	default:
		return picture{}, userErrorf("pull policy %q: use always, if-not-present or never", policy)
	}
	p, err := e.pull(ctx, c, ref, spec, w)
	if errors.Is(err, sandbox.ErrUser) && errors.Is(withheld.error, sandbox.ErrUser) {
		return picture{}, withheld // which says more
	}
	return p, err
}

// inspect finds an image by a name or an ID.
func (e *Engine) inspect(ctx context.Context, c sandbox.Container, ref string) (picture, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	r, err := e.api.ImageInspect(ctx, ref)
	if err != nil {
		return picture{}, fmt.Errorf("image %s: %w", c.Image, err)
	}
	if c.Platform != "" && !samePlatform(c.Platform, r.Os, r.Architecture, r.Variant) {
		return picture{}, fmt.Errorf("image %s for %s: %w", c.Image, c.Platform, cerrdefs.ErrNotFound)
	}
	p := picture{id: r.ID, digests: r.RepoDigests, config: r.Config}
	if p.config == nil {
		p.config = &dockerspec.DockerOCIImageConfig{}
	}
	p.digest = digestOf(c.Image, r.RepoDigests)
	return p, nil
}

// digestOf picks the digest that goes with the name the job uses: an image
// may have come from several registries.
func digestOf(image string, digests []string) string {
	asked, err := reference.ParseNormalizedNamed(image)
	for _, d := range digests {
		if have, bad := reference.ParseNormalizedNamed(d); err == nil && bad == nil && have.Name() == asked.Name() {
			return d
		}
	}
	return ""
}

// login finds what opens an image's registry; both are empty for anonymity.
func login(ctx context.Context, c sandbox.Container, ref reference.Named) (auth, source string, err error) {
	if c.Auth != nil {
		if auth, source, err = c.Auth(ctx, ref.String()); err != nil {
			err = fmt.Errorf("registry login for %s: %w", c.Image, err)
		}
	}
	return auth, source, err
}

// digested tells a name with a digest. The engine does not ask a registry for
// a digest that it has from there: such a pull proves nothing.
func digested(ref reference.Named) bool {
	_, ok := ref.(reference.Canonical)
	return ok
}

// pull brings an image. What it returns is what the registry gave for ref,
// whatever others have pulled meanwhile.
func (e *Engine) pull(ctx context.Context, c sandbox.Container, ref reference.Named, spec sandbox.Spec, w io.Writer) (picture, error) {
	auth, source, err := login(ctx, c, ref)
	if err != nil {
		return picture{}, err
	}
	if source != "" {
		sayf(w, "Pulling image %s with the login from %s", c.Image, source)
	} else {
		sayf(w, "Pulling image %s", c.Image)
	}
	if auth != "" && digested(ref) {
		if err := e.has(ctx, ref, auth); err != nil {
			return picture{}, pullError(ctx, c.Image, err)
		}
	}
	for try := 1; ; try++ {
		a, err := e.expect(ctx, ref, auth != "", spec)
		if err != nil {
			return picture{}, err
		}
		digest, err := e.fetch(ctx, c, ref, auth, spec, w)
		if err != nil {
			return picture{}, errors.Join(err, a.failed(ctx, err))
		}
		p, err := a.landed(ctx, c, digest, w)
		if !errors.Is(err, errGone) || try == 3 {
			return p, err
		}
	}
}

// fetch has the engine pull, and returns the digest that the registry gave.
func (e *Engine) fetch(ctx context.Context, c sandbox.Container, ref reference.Named, auth string, spec sandbox.Spec, w io.Writer) (digest string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.PullTimeout, fmt.Errorf("took longer than pull_timeout, %s", spec.PullTimeout))
	defer cancel()
	stream, err := e.api.ImagePull(ctx, ref.String(), image.PullOptions{RegistryAuth: auth, Platform: c.Platform})
	if err == nil {
		defer stream.Close()
		digest, err = showPull(stream, w)
	}
	if err != nil {
		return "", pullError(ctx, c.Image, err)
	}
	return digest, nil
}

// pullError tells a name that no registry will ever know from a registry that
// does not answer today.
func pullError(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("pull of image %s: %w", name, cause)
	}
	if cerrdefs.IsInvalidArgument(err) || refused(err) {
		return userErrorf("pull of image %s: %w", name, err)
	}
	return fmt.Errorf("pull of image %s: %w", name, err)
}

// refused says that a registry has answered, and that asking again will not
// change it. The engine has nothing but words for that.
func refused(err error) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc([]string{
		"not found", "manifest unknown", "access denied", "access to the resource is denied", "unauthorized", "no basic auth",
		"name invalid", "no matching manifest", "does not exist", "name unknown",
	}, func(final string) bool { return strings.Contains(text, final) })
}

func (p picture) name() string {
	if p.digest != "" {
		return "digest " + p.digest
	}
	return "local image " + p.id
}

// samePlatform compares os/arch[/variant]; an image without a variant serves
// any.
func samePlatform(want, os, arch, variant string) bool {
	parts := strings.Split(strings.ToLower(want), "/")
	for i, p := range parts { // the kernel's names, which the engine takes too
		switch p {
		case "x86_64":
			parts[i] = "amd64"
		case "aarch64":
			parts[i] = "arm64"
		}
	}
	have := []string{os, arch, variant}
	if len(parts) == 1 { // "linux/arm64" may be written "arm64"
		return parts[0] == arch || parts[0] == os
	}
	for i, p := range parts {
		if i < len(have) && have[i] != "" && p != have[i] {
			return false
		}
	}
	return true
}
